// The live charts: the series of the run, extended by its events as they come, read anew at the border of an iteration.

import { get } from "../calls.js";
import { Chart } from "../chart.js";
import { h, refill } from "../dom.js";
import { count, duration, fixed, number, percent } from "../format.js";
import { calmed } from "../live.js";
import { FINAL } from "../progress.js";
import { complain, empty } from "../shell.js";
import { EVALUATED, stageOf, STEPPED, THROUGHPUT } from "./figures.js";
import { unlearned } from "./unlearned.js";

const DRAW_MS = 500;
const READ_MS = 4000;

class Charts {
  constructor(store) {
    this.store = store;
    this.steps = new Map();
    this.evaluations = new Map();
    this.stages = new Map();
    this.iterations = [];
    this.alert = h("div");
    this.tiles = h("dl", { class: "tiles" });
    this.note = h("div");
    this.evaluated = EVALUATED.map((about) => [about, new Chart({ ...about, x: "iteration" })]);
    this.stepped = STEPPED.map((about) => [about, new Chart({ ...about, x: "step" })]);
    this.throughput = new Chart({ ...THROUGHPUT, x: "iteration" });
    const figures = [...this.evaluated, ...this.stepped].map(([, chart]) => chart.figure);
    this.element = h("div", {}, this.alert, this.tiles, this.note, h("div", { class: "figures" }, figures, this.throughput.figure));
    this.soon = calmed(() => this.draw(), DRAW_MS);
    this.reread = calmed(() => this.read().catch(complain), READ_MS);
    store.addEventListener("events", ({ detail }) => this.heard(detail));
    store.addEventListener("iteration", () => this.reread());
    store.addEventListener("run", () => this.soon());
    this.reread();
  }

  shown(visible) {
    if (visible) this.soon();
  }

  async read() {
    const [metrics, iterations] = await Promise.all([get(`${this.store.path}/metrics`), get(`${this.store.path}/iterations`)]);
    this.iterations = iterations;
    for (const [held, series] of [[this.steps, metrics.steps], [this.evaluations, metrics.evaluations], [this.stages, metrics.stages]]) {
      for (const { name, x, y } of series) x.forEach((at, i) => this.put(held, name, at, y[i]));
    }
    this.ready = true;
    this.draw();
  }

  put(held, name, x, y) {
    if (!held.has(name)) held.set(name, new Map());
    held.get(name).set(x, y);
  }

  heard(events) {
    for (const { type, payload } of events) {
      const [held, x] = { step_done: [this.steps, payload.total_step], evaluation_done: [this.evaluations, payload.iteration] }[type] ?? [];
      if (held) for (const [name, y] of Object.entries(payload.metrics ?? {})) this.put(held, name, x, y);
    }
    if (events.length) this.soon();
  }

  series(held, lines) {
    return lines.filter(({ name }) => held.has(name)).map(({ name, label, colour, low, high }) => ({
      name: label, colour,
      points: [...held.get(name)].sort(([a], [b]) => a - b).map(([x, y]) => ({ x, y, low: held.get(low)?.get(x), high: held.get(high)?.get(x) })),
    }));
  }

  // The step before the first of each iteration but the first.
  borders() {
    let steps = 0;
    return this.iterations.slice(0, -1).map(({ steps: done, steps_done: so_far }) => (steps += done ?? so_far) + 0.5);
  }

  draw() {
    if (!this.element.isConnected) return;
    const borders = this.borders();
    for (const [about, chart] of this.evaluated) chart.show(this.series(this.evaluations, about.lines));
    for (const [about, chart] of this.stepped) {
      const series = this.series(this.steps, about.lines);
      chart.show(about.some && series.every((line) => line.points.every((p) => !p.y)) ? [] : series, borders);
    }
    const stages = [...this.stages.keys()].map((name) => ({ name, label: stageOf(name)[0], colour: stageOf(name)[1] }));
    this.throughput.show(this.series(this.stages, stages));
    refill(this.alert, unlearned(this.steps, this.store.run.spec));
    refill(this.tiles, this.headlines());
    const nothing = this.ready && !this.steps.size && !this.evaluations.size;
    refill(this.note, nothing ? this.nothing() : null);
  }

  nothing() {
    const over = FINAL.has(this.store.run.status);
    return empty(over ? "This run ended before it measured anything." : "No numbers yet.", over ? null : "They appear by themselves with the first evaluation or step.");
  }

  headlines() {
    const { run } = this.store;
    const evaluated = [...(this.evaluations.get("reward") ?? new Map())].filter(([, y]) => y !== null).sort(([a], [b]) => a - b);
    const newest = evaluated.at(-1)?.[0];
    const of = (name) => this.evaluations.get(name)?.get(newest);
    const base = this.evaluations.get("reward")?.get(0);
    const begun = run.started_at ? ((run.finished_at ? Date.parse(run.finished_at) : Date.now()) - Date.parse(run.started_at)) / 1000 : null;
    const tiles = [];
    if (newest !== undefined) tiles.push(["Held-out reward", fixed(of("reward")), newest && base !== undefined ? `base ${fixed(base)}, after iteration ${newest}` : "of the base", newest ? of("reward") > base : null]);
    if (of("win_rate/base") !== undefined && of("win_rate/base") !== null) tiles.push(["Win rate against the base", percent(of("win_rate/base")), `95 %: ${percent(of("win_rate/base/low"), 0)} to ${percent(of("win_rate/base/high"), 0)}`, of("win_rate/base/low") > 0.5 || null]);
    if (newest && of("kl/k1") !== undefined) tiles.push(["KL from the base", number(of("kl/k1")), "nats per response", null]);
    if (run.progress.prompts) tiles.push(["Prompts judged", run.progress.prompts.toLocaleString("en"), run.progress.replayed_steps ? `${count(run.progress.replayed_steps, "step")} done again` : "no step done twice", null]);
    if (begun !== null) tiles.push(["Running for", duration(begun), run.attempt > 1 ? `in ${run.attempt} attempts` : "", null]);
    return tiles.map(([label, value, detail, good]) => h("div", { class: `tile ${good ? "good" : ""}` }, h("dt", {}, label), h("dd", { class: "value" }, value), h("dd", { class: "detail" }, detail)));
  }
}

export const charts = (store) => new Charts(store);
