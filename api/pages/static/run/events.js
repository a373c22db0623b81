// The event log, newest first, growing as the run goes; chatter of shards and steps is left out unless it is asked for.

import { arrange, h, refill, text } from "../dom.js";
import { clock, date, words } from "../format.js";
import { calmed } from "../live.js";
import { complain, empty } from "../shell.js";
import { wordsOf } from "./wording.js";

const CHATTER = new Set(["shard_done", "step_done"]);
const KINDS = {
  milestones: ["Milestones", (event) => !CHATTER.has(event.type) || event.level !== "info"],
  all: ["Everything", () => true],
  warnings: ["Warnings and errors", (event) => event.level !== "info"],
};
const DRAWN = 500;

class Events {
  constructor(store) {
    this.store = store;
    this.lines = new Map();
    this.most = DRAWN;
    this.kind = h("select", { "aria-label": "Which events", onchange: () => this.draw() }, Object.entries(KINDS).map(([value, [label]]) => h("option", { value }, label)));
    this.search = h("input", { type: "search", "aria-label": "Search events", placeholder: "Search", oninput: () => this.draw() });
    this.count = h("output");
    this.list = h("ol", { class: "events", role: "log", "aria-label": "Events, newest first", tabindex: "0" });
    this.note = h("div");
    this.older = h("button", { type: "button", onclick: () => this.before() }, "Show older events");
    this.element = h("div", {}, h("div", { class: "search" }, this.search, this.kind, this.count), this.list, this.note, h("p", { class: "more" }, this.older));
    this.soon = calmed(() => this.draw(), 300);
    store.addEventListener("events", () => this.soon());
  }

  shown(visible) {
    if (visible) this.draw();
  }

  before() {
    this.most += DRAWN;
    return this.store.older().catch(complain);
  }

  draw() {
    if (!this.element.isConnected) return;
    const asked = this.search.value.toLowerCase();
    const wanted = this.store.events.filter((event) => KINDS[this.kind.value][1](event) && (!asked || `${event.type} ${wordsOf(event)}`.toLowerCase().includes(asked)));
    arrange(this.list, wanted.slice(-this.most).reverse().map((event) => this.line(event)));
    this.count.textContent = `${wanted.length.toLocaleString("en")} of ${this.store.events.length.toLocaleString("en")}`;
    this.older.hidden = (this.store.events[0]?.seq ?? 1) <= 1;
    refill(this.note, wanted.length ? null : empty(this.store.events.length ? "None of these events." : "Nothing has happened yet."));
  }

  line(event) {
    if (!this.lines.has(event.seq)) {
      this.lines.set(event.seq, h(
        "li", { class: event.level },
        h("time", { datetime: event.at, title: date(event.at) }, clock(event.at)),
        h("span", { class: "kind" }, text(words(event.type)), event.level === "info" ? null : h("span", { class: "level" }, event.level)), text(wordsOf(event), { class: "what" }),
      ));
    }
    return this.lines.get(event.seq);
  }
}

export const events = (store) => new Events(store);
