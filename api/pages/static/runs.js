// All runs: status, progress, time left, owner, age; kept fresh, filtered, and paged backwards.

import { get } from "./calls.js";
import { clusterStrip } from "./cluster.js";
import { arrange, h, plain, refill, text } from "./dom.js";
import { age, date } from "./format.js";
import { repeat } from "./live.js";
import { bar, BUSY, remaining, told } from "./progress.js";
import { complain, empty, may, status, title, trouble } from "./shell.js";

const FRESH_S = 3;
const ALL_EVERY = 5;
const FILTERS = {
  "": ["All statuses", []],
  active: ["Active", [...BUSY]],
  queued: ["Queued", ["queued"]],
  waiting: ["Waiting for labels", ["waiting_for_labels"]],
  paused: ["Paused", ["paused"]],
  succeeded: ["Succeeded", ["succeeded"]],
  failed: ["Failed", ["failed"]],
  cancelled: ["Cancelled", ["cancelled"]],
};

class Runs {
  constructor(main, me) {
    this.me = me;
    this.rows = new Map();
    this.owners = new Map([[me.id, "you"]]);
    this.items = [];
    this.pages = 1;
    this.turns = 0;
    this.epoch = 0;
    const asked = new URLSearchParams(location.search);
    this.search = h("input", { type: "search", id: "search", placeholder: "Name, id, or metadata as key:value", "aria-label": "Search runs", autocomplete: "off", value: asked.get("q") ?? "", oninput: () => this.searched() });
    this.filter = h("select", { id: "filter", "aria-label": "Status", onchange: () => this.restart() }, Object.entries(FILTERS).map(([key, [label]]) => h("option", { value: key }, label)));
    this.filter.value = asked.get("status") in FILTERS ? asked.get("status") : "";
    this.mine = h("input", { type: "checkbox", id: "mine", checked: asked.has("mine"), onchange: () => this.restart() });
    this.count = h("output", { for: "search filter mine" });
    this.body = h("tbody");
    this.older = h("button", { type: "button", hidden: true, onclick: () => this.more() }, "Show older runs");
    this.note = h("div", { "aria-live": "polite" });
    this.table = h("table", { class: "runs", hidden: true },
      h("thead", {}, h("tr", {}, ["Run", "Status", "Progress", "Time", "Owner", "Submitted"].map((name) => h("th", { scope: "col" }, name)))), this.body);
    refill(main,
      h("header", { class: "pagehead" }, h("h1", {}, "Runs"), clusterStrip()),
      h("div", { class: "search", role: "search" }, this.search, this.filter, h("label", { class: "check" }, this.mine, "Mine"), this.count),
      this.table, this.note, h("p", { class: "more" }, this.older));
  }

  async begin() {
    if (may(this.me, "admin")) this.names().catch(() => null);
    this.loop = repeat(() => this.refresh(), FRESH_S, (error) => this.failed(error));
  }

  async names() {
    const { items } = await get("/keys");
    for (const key of items) this.owners.set(key.id, key.id === this.me.id ? "you" : key.name);
    this.draw();
  }

  failed(error) {
    if (!this.items.length) refill(this.note, trouble(error));
    else complain(error);
  }

  query(after) {
    const metadata = this.search.value.trim();
    return {
      after, status: FILTERS[this.filter.value][1], owner: this.mine.checked ? "self" : null,
      metadata: /^[^\s:]+:[^\s].*$/.test(metadata) ? metadata : null,
    };
  }

  restart() {
    this.epoch += 1;
    [this.pages, this.turns, this.items] = [1, 0, []];
    const kept = new URLSearchParams();
    if (this.search.value) kept.set("q", this.search.value);
    if (this.filter.value) kept.set("status", this.filter.value);
    if (this.mine.checked) kept.set("mine", "1");
    history.replaceState(null, "", kept.size ? `/?${kept}` : "/");
    this.loop.now();
  }

  searched() {
    const byMetadata = Boolean(this.query().metadata);
    if (byMetadata || this.byMetadata) this.restart();
    this.byMetadata = byMetadata;
    this.draw();
  }

  async more() {
    this.pages += 1;
    this.turns = 0;
    await this.loop.now();
  }

  // The newest page each time; all that are shown once in a while.
  async refresh() {
    const epoch = this.epoch;
    const all = this.turns % ALL_EVERY === 0;
    const found = [];
    let cursor = null;
    for (let page = 0; page < (all ? this.pages : 1); page += 1) {
      const answer = await get("/runs", this.query(cursor));
      found.push(...answer.items);
      cursor = answer.next;
      if (cursor === null) break;
    }
    if (epoch !== this.epoch) return;
    this.turns += 1;
    if (all) {
      this.items = found;
      this.cursor = cursor;
    } else this.items = this.joined(found);
    this.draw();
  }

  joined(newest) {
    if (!newest.length) return [];
    const fresh = new Set(newest.map((run) => run.id));
    const last = newest.at(-1);
    const behind = this.items.filter((run) => !fresh.has(run.id) && `${run.created_at}${run.id}` < `${last.created_at}${last.id}`);
    return [...newest, ...behind];
  }

  shown() {
    const wanted = this.query().metadata ? [] : this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    return this.items.filter((run) => {
      const words = [run.name, run.id, this.owner(run), run.spec.algorithm?.kind, ...Object.entries(run.metadata).flat()].join("\n").toLowerCase();
      return wanted.every((word) => words.includes(word));
    });
  }

  owner(run) {
    return this.owners.get(run.owner) ?? run.owner;
  }

  draw() {
    const runs = this.shown();
    const rows = runs.map((run) => this.row(run));
    arrange(this.body, rows);
    this.table.hidden = !rows.length;
    this.older.hidden = !this.cursor;
    this.count.textContent = this.items.length ? `${runs.length === this.items.length ? "" : `${runs.length} of `}${this.items.length}${this.cursor ? "+" : ""}` : "";
    refill(this.note, rows.length ? null : this.nothing());
  }

  nothing() {
    if (this.items.length) return empty("No run here has these words.", this.cursor ? "Older runs may: show them, or ask for metadata as key:value." : null);
    if (this.filter.value || this.mine.checked || this.search.value) return empty("No run is like this.");
    return empty("No run yet.", h("span", {}, "Submit one from a shell: ", h("code", {}, "xpo-ray submit SPEC --follow")));
  }

  row(run) {
    let row = this.rows.get(run.id);
    if (!row) {
      row = h("tr", {}, h("th", { scope: "row", class: "run" }), ["state", "progress", "time", "owner", "age"].map((name) => h("td", { class: name })));
      this.rows.set(run.id, row);
    }
    const [name, state, progress, time, owner, since] = row.children;
    const words = JSON.stringify([run.version, run.status, run.progress, run.waiting_for, run.queue_position, this.owner(run)]);
    if (row.dataset.words !== words) {
      row.dataset.words = words;
      if (!name.firstChild) refill(name, this.name(run));
      refill(state, status(run.status), run.waiting_for ? text(run.waiting_for, { class: "why" }) : null, run.error ? text(run.error.message, { class: "why bad" }) : null);
      refill(progress, bar(run), h("span", { class: "small" }, told(run)));
      refill(owner, text(this.owner(run), { title: run.owner }));
    }
    refill(time, remaining(run));
    refill(since, h("time", { datetime: run.created_at, title: date(run.created_at) }, age(run.created_at)));
    return row;
  }

  name(run) {
    const notes = Object.entries(run.metadata).map(([key, value]) => h("span", { class: "tag", title: plain(`${key}: ${value}`) }, text(key), ": ", text(value)));
    return [
      h("a", { href: `/runs/${encodeURIComponent(run.id)}` }, text(run.name)),
      h("span", { class: "small" }, `${run.spec.algorithm?.kind ?? ""}${run.forked_from ? " · fork" : ""} `, h("code", {}, run.id)),
      notes.length ? h("span", { class: "tags" }, notes) : null,
    ];
  }
}

export const runs = async (main, me) => {
  title("Runs");
  await new Runs(main, me).begin();
};
