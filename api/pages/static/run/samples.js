// Samples side by side: held-out responses of two iterations, or the candidates of training prompts with their roles.
// All of it is a model's text, and stands here as text only.

import { get } from "../calls.js";
import { h, plain, refill, text } from "../dom.js";
import { count, fixed, percent } from "../format.js";
import { empty, trouble } from "../shell.js";

const PAGE = 25;

class Samples {
  constructor(store) {
    this.store = store;
    this.iterations = [];
    const change = () => this.load();
    this.kind = h("select", { "aria-label": "Kind of samples", onchange: () => this.pick() }, h("option", { value: "held_out" }, "Held-out prompts"), h("option", { value: "training" }, "Training prompts"));
    this.left = h("select", { "aria-label": "Iteration", onchange: change });
    this.right = h("select", { "aria-label": "Iteration to compare with", onchange: change });
    this.versus = h("span", { class: "versus" }, "against");
    this.search = h("input", { type: "search", "aria-label": "Search prompts and responses", placeholder: "Search prompts and responses", oninput: () => this.draw() });
    this.order = h("select", { "aria-label": "Order", onchange: () => this.draw() }, ["as in the dataset", "largest gain first", "largest loss first"].map((name, i) => h("option", { value: i }, name)));
    this.count = h("output");
    this.list = h("div", { class: "groups", "aria-live": "off" });
    this.note = h("div");
    this.more = h("button", { type: "button", hidden: true, onclick: () => this.fetch(this.epoch) }, "Show more prompts");
    this.element = h("div", {}, h("div", { class: "search" }, this.kind, this.left, this.versus, this.right, this.order, this.search, this.count), this.list, this.note, h("p", { class: "more" }, this.more));
    this.epoch = 0;
    store.addEventListener("iteration", () => this.look().catch(() => null));
    this.look().catch((error) => refill(this.note, trouble(error)));
  }

  // Which iterations can be looked at: those begun, and the base where responses were held out.
  async look() {
    const iterations = await get(`${this.store.path}/iterations`);
    const known = iterations.filter((one) => one.status !== "planned").map((one) => one.iteration);
    const published = iterations.filter((one) => one.status === "published").map((one) => one.iteration);
    const words = JSON.stringify([known, published]);
    if (words === this.words) return;
    this.words = words;
    [this.known, this.published] = [known.filter((t) => t > 0), published.filter((t) => t > 0)];
    if (this.groups?.size) this.offer(this.left.value, this.right.value);
    else this.pick();
  }

  options(select, iterations, wanted) {
    refill(select, iterations.map((t) => h("option", { value: t }, t === 0 ? "base" : `iteration ${t}`)));
    select.value = iterations.map(String).includes(String(wanted)) ? wanted : iterations.at(-1);
  }

  pick() {
    this.offer();
    this.load();
  }

  // What can be chosen; who reads keeps what he has chosen when an iteration is added.
  offer(left, right) {
    const heldOut = this.kind.value === "held_out";
    const there = heldOut ? [0, ...(this.published ?? [])] : this.known ?? [];
    this.options(this.left, there, left ?? there.at(-1));
    this.options(this.right, there, right ?? 0);
    this.versus.hidden = this.right.hidden = !heldOut;
    this.order.hidden = !heldOut;
  }

  load() {
    this.epoch += 1;
    this.groups = new Map();
    this.cursors = { left: null, right: null };
    refill(this.list);
    this.fetch(this.epoch);
  }

  async fetch(epoch) {
    const kind = this.kind.value;
    const sides = kind === "held_out" && this.right.value !== this.left.value ? ["left", "right"] : ["left"];
    if (!this.left.value) return this.draw();
    this.more.disabled = true;
    try {
      const pages = await Promise.all(sides.map((side) => get(`${this.store.path}/samples`, { kind, iteration: this[side].value, after: this.cursors[side], limit: PAGE })));
      if (epoch !== this.epoch) return undefined;
      sides.forEach((side, i) => {
        this.cursors[side] = pages[i].next;
        for (const sample of pages[i].items) this.keep(side, sample);
      });
      this.more.hidden = this.cursors.left === null;
      this.draw();
    } catch (error) {
      if (epoch === this.epoch) refill(this.note, trouble(error));
    } finally {
      this.more.disabled = false;
    }
    return undefined;
  }

  keep(side, sample) {
    const group = this.groups.get(sample.row) ?? { row: sample.row, prompt: sample.prompt };
    group[side] = sample;
    this.groups.set(sample.row, group);
  }

  // In held-out samples the first candidate is the iteration's own; what it is compared with is the other side's.
  candidates(group) {
    if (this.kind.value === "training") return group.left?.candidates ?? [];
    return ["right", "left"].map((side) => group[side]).filter(Boolean).map((sample) => ({ ...sample.candidates[0], made: sample.iteration }));
  }

  gain(group) {
    const [a, b] = [group.left?.candidates[0]?.score, group.right?.candidates[0]?.score];
    return a === null || b === null || a === undefined || b === undefined ? 0 : a - b;
  }

  draw() {
    const asked = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const sign = this.kind.value === "held_out" ? [0, -1, 1][Number(this.order.value)] : 0;
    const groups = [...(this.groups?.values() ?? [])].filter((group) => {
      const words = [...group.prompt.map((turn) => turn.content), ...this.candidates(group).map((c) => c.text)].join("\n").toLowerCase();
      return asked.every((word) => words.includes(word));
    }).sort((a, b) => sign * (this.gain(a) - this.gain(b)));
    refill(this.list, groups.map((group) => this.group(group)));
    const all = this.groups?.size ?? 0;
    this.count.textContent = all ? `${groups.length === all ? "" : `${groups.length} of `}${count(all, "prompt")}${this.more.hidden ? "" : " so far"}` : "";
    refill(this.note, groups.length ? null : all ? empty("None of these prompts has these words.") : empty("No samples here yet.", this.kind.value === "held_out" ? "They come with the evaluation of an iteration." : "They come with the first judged shards."));
  }

  group(group) {
    const notes = [group.left?.note, group.right?.note].filter(Boolean);
    const gain = this.kind.value === "held_out" && group.left && group.right ? this.gain(group) : null;
    return h(
      "article", { class: "group" },
      h("header", {}, h("p", { class: "rownumber" }, `prompt ${group.row}`, gain ? h("span", { class: gain > 0 ? "good" : "bad" }, ` ${gain > 0 ? "+" : ""}${fixed(gain)}`) : null), group.prompt.map((turn) => h("p", { class: "turn" }, h("span", { class: "role" }, plain(turn.role)), " ", text(turn.content)))),
      h("div", { class: "answers" }, this.candidates(group).map((candidate) => this.answer(candidate))),
      notes.length ? h("p", { class: "small" }, text([...new Set(notes)].join("; "))) : null,
    );
  }

  answer(candidate) {
    const name = candidate.made === undefined ? words(candidate) : candidate.made === 0 ? "base" : `iteration ${candidate.made}`;
    const facts = [count(candidate.tokens ?? 0, "token"), candidate.ended === false ? "cut at the limit" : null];
    if (candidate.made && candidate.win_base !== null && candidate.win_base !== undefined) facts.push(`wins ${percent(candidate.win_base, 0)} against the base`);
    return h(
      "section", { class: `answer ${candidate.role ?? ""}` },
      h("h4", {}, h("span", {}, plain(name)), h("span", { class: "score", title: "score of the judge" }, fixed(candidate.score))),
      h("p", { class: "body", tabindex: "0" }, text(candidate.text)),
      h("p", { class: "small" }, facts.filter(Boolean).join(", ")),
    );
  }
}

const words = (candidate) => [candidate.role, candidate.comparator && candidate.role !== "comparator" ? "comparator" : null, candidate.origin].filter(Boolean).join(" · ");

export const samples = (store) => new Samples(store);
