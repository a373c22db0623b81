// What the page knows of its run, kept fresh by the run's own events. The tabs listen: `run`, `events`, `iteration`.

import { get, send } from "../calls.js";
import { calmed, repeat } from "../live.js";
import { FINAL } from "../progress.js";
import { complain } from "../shell.js";
import { follow } from "../stream.js";

const AT_FIRST = 100;
const KEPT = 5000;
const REFRESH_MS = 1000;
const FALLBACK_S = 10;
const BORDERS = new Set(["iteration_published", "evaluation_done", "checkpoints_freed", "run_finished"]);

export class RunStore extends EventTarget {
  static async open(id) {
    const path = `/runs/${encodeURIComponent(id)}`;
    const store = new RunStore(id, path, await get(path));
    store.begin();
    return store;
  }

  constructor(id, path, run) {
    super();
    [this.id, this.path, this.run, this.events] = [id, path, run, []];
    this.soon = calmed(() => this.refresh(), REFRESH_MS);
  }

  // The newest events, then each as it happens; the run itself anew after them, and now and then because the queue moves.
  async begin() {
    this.loop = repeat(() => this.fetch(), FALLBACK_S, complain);
    try {
      this.take(await this.newest());
    } catch (error) {
      complain(error);
    }
    if (!FINAL.has(this.run.status)) {
      this.unfollow = follow(this.id, this.last, (events) => this.heard(events), complain);
    }
  }

  get last() {
    return this.events.at(-1)?.seq ?? 0;
  }

  async newest() {
    return (await get(`${this.path}/events`, { newest: true, limit: AT_FIRST })).items;
  }

  async page(after, limit) {
    return (await get(`${this.path}/events`, { after, limit })).items;
  }

  // The events before the first that is held; the numbers have no gap.
  async older() {
    const first = this.events[0]?.seq ?? 1;
    if (first <= 1) return;
    const before = await this.page(Math.max(0, first - 1 - AT_FIRST), Math.min(AT_FIRST, first - 1));
    this.events = [...before, ...this.events];
    this.tell("events", []);
  }

  take(events) {
    this.events.push(...events.filter((event) => event.seq > this.last));
    if (this.events.length > 2 * KEPT) this.events.splice(0, this.events.length - KEPT);
    this.tell("events", events);
    if (events.some((event) => BORDERS.has(event.type))) this.tell("iteration");
  }

  heard(events) {
    this.take(events);
    this.soon();
    return events.some((event) => event.type === "status_changed" && FINAL.has(event.payload.to));
  }

  async fetch() {
    const before = this.run.status;
    this.run = await get(this.path);
    if (FINAL.has(this.run.status)) this.loop.stop();
    this.tell("run");
    if (before !== this.run.status) this.tell("iteration");
  }

  refresh() {
    return this.fetch().catch(() => null);
  }

  async command(name) {
    this.run = await send("POST", `${this.path}/${name}`);
    this.tell("run");
    return this.run;
  }

  tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
