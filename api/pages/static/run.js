// One run: its head with status, progress and commands, and a tab for each thing that can be looked at.

import { jobPage, outside } from "./cluster.js";
import { get } from "./calls.js";
import { confirmed, complain, copyButton, may, notice, status, title, trouble } from "./shell.js";
import { h, refill, text } from "./dom.js";
import { age, date } from "./format.js";
import { bar, FINAL, remaining, told, wasted } from "./progress.js";
import { RunStore } from "./run/store.js";
import { attempts } from "./run/attempts.js";
import { charts } from "./run/charts.js";
import { checkpoints } from "./run/checkpoints.js";
import { events } from "./run/events.js";
import { logs } from "./run/logs.js";
import { samples } from "./run/samples.js";
import { spec } from "./run/spec.js";

const TABS = { charts: ["Charts", charts], samples: ["Samples", samples], events: ["Events", events], checkpoints: ["Checkpoints", checkpoints], attempts: ["Attempts", attempts], logs: ["Logs", logs], spec: ["Spec", spec] };

const ALIVE = ["starting", "running", "waiting_for_labels"];
const COMMANDS = {
  pause: { label: "Pause", from: ["queued", ...ALIVE] },
  resume: { label: "Resume", from: ["paused"], primary: true },
  cancel: {
    label: "Cancel", from: ["queued", "paused", "pausing", ...ALIVE], danger: true,
    ask: {
      question: "Cancel this run?", yes: "Cancel the run", danger: true,
      detail: "It ends for good and cannot be resumed. What was published stays; steps since the last checkpoint are lost. To stop it for a while, pause it.",
    },
  },
};

class RunPage {
  constructor(main, me, store) {
    this.me = me;
    this.store = store;
    this.heading = h("header", { class: "runhead" });
    this.state = h("div", { class: "state" });
    this.tabs = h("div", { role: "tablist", "aria-label": "Parts of the run", onkeydown: (event) => this.key(event) });
    this.panel = h("section", { id: "panel", role: "tabpanel", tabindex: "0" });
    this.held = new Map();
    refill(main, this.heading, this.state, this.tabs, this.panel);
    for (const [name, [label]] of Object.entries(TABS)) {
      this.tabs.append(h("a", { role: "tab", id: `tab-${name}`, href: `#${name}`, "aria-controls": "panel" }, label));
    }
    window.addEventListener("hashchange", () => this.open());
  }

  begin() {
    this.draw();
    this.open();
    this.store.addEventListener("run", () => this.draw());
    get("/cluster").then((cluster) => {
      this.cluster = cluster;
      this.draw();
    }).catch(() => null);
    if (may(this.me, "admin")) {
      get(`/keys`).then(({ items }) => {
        this.owner = items.find((key) => key.id === this.store.run.owner)?.name;
        this.draw();
      }).catch(() => null);
    }
  }

  // A tab keeps its content while another is looked at; `content.shown(false)` tells it to stop fetching.
  open() {
    const name = location.hash.slice(1) in TABS ? location.hash.slice(1) : "charts";
    if (name === this.current) return;
    this.held.get(this.current)?.shown?.(false);
    this.current = name;
    for (const tab of this.tabs.children) {
      const chosen = tab.id === `tab-${name}`;
      tab.setAttribute("aria-selected", String(chosen));
      tab.tabIndex = chosen ? 0 : -1;
      if (chosen) this.tabs.scrollLeft = tab.offsetLeft - this.tabs.offsetLeft - 24;
    }
    this.panel.setAttribute("aria-labelledby", `tab-${name}`);
    if (!this.held.has(name)) this.held.set(name, TABS[name][1](this.store, this.me));
    refill(this.panel, this.held.get(name).element);
    this.held.get(name).shown?.(true);
  }

  key(event) {
    const tabs = [...this.tabs.children];
    const here = tabs.indexOf(document.activeElement);
    const to = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined || here < 0) return;
    event.preventDefault();
    const tab = tabs[(to + tabs.length) % tabs.length];
    tab.focus();
    location.replace(tab.getAttribute("href"));
  }

  draw() {
    const { run } = this.store;
    title(run.name);
    const words = JSON.stringify([run.version, run.status, run.attempt, run.ray_job, this.cluster?.dashboard, this.owner]);
    if (this.words !== words) {
      this.words = words;
      this.drawHead(run);
    }
    refill(
      this.state,
      h("div", { class: "progress" }, bar(run), h("p", {}, h("span", {}, told(run)), h("span", {}, wasted(run.progress)), h("span", {}, remaining(run)))),
      run.waiting_for ? h("p", { class: "note" }, text(run.waiting_for)) : null,
      run.error ? this.error(run.error) : null,
    );
  }

  drawHead(run) {
    const focused = document.activeElement?.dataset?.command;
    const job = jobPage(this.cluster, run.ray_job);
    const owner = run.owner === this.me.id ? "you" : this.owner ?? run.owner;
    const facts = [
      run.spec.algorithm?.kind, h("span", {}, h("code", {}, run.id)), h("span", {}, "by ", text(owner, { title: run.owner })),
      h("time", { datetime: run.created_at, title: age(run.created_at) }, date(run.created_at)),
      run.attempt > 1 ? `attempt ${run.attempt}` : null, run.priority ? `priority ${run.priority}` : null, run.tier ? `${run.tier} tier` : null,
      run.selected_iteration === null || run.selected_iteration === undefined ? null : `result: iteration ${run.selected_iteration}`,
      run.forked_from ? h("span", {}, "fork of ", h("a", { href: `/runs/${encodeURIComponent(run.forked_from.run)}` }, run.forked_from.run), ` at iteration ${run.forked_from.iteration}`) : null,
      run.attempt ? outside(`/v1/runs/${encodeURIComponent(run.id)}/report`, "Report") : null, job ? outside(job, "Ray job") : null,
    ];
    const notes = Object.entries(run.metadata).map(([key, value]) => h("span", { class: "tag" }, text(key), ": ", text(value)));
    refill(
      this.heading,
      h("p", { class: "crumbs" }, h("a", { href: "/" }, "Runs")),
      h("div", { class: "title" }, h("h1", {}, text(run.name), " ", status(run.status)), h("div", { class: "commands" }, this.commands(run))),
      h("p", { class: "facts" }, facts.filter(Boolean).map((fact) => (typeof fact === "string" ? h("span", {}, fact) : fact))),
      notes.length ? h("p", { class: "tags" }, notes) : null,
    );
    if (focused) this.heading.querySelector(`[data-command="${focused}"]`)?.focus();
  }

  commands(run) {
    const own = may(this.me, "admin") || (may(this.me, "submit") && run.owner === this.me.id);
    if (!own || FINAL.has(run.status)) return [];
    return Object.entries(COMMANDS).filter(([, { from }]) => from.includes(run.status)).map(([name, about]) =>
      h("button", { type: "button", "data-command": name, class: about.danger ? "danger" : about.primary ? "primary" : "", onclick: (event) => this.command(name, about, event.currentTarget) }, about.label),
    );
  }

  async command(name, about, button) {
    if (about.ask && !(await confirmed(about.ask))) return;
    button.disabled = true;
    try {
      const run = await this.store.command(name);
      notice(`The run is ${run.status.replaceAll("_", " ")}.`);
    } catch (error) {
      complain(error);
      button.disabled = false;
      this.store.refresh();
    }
  }

  error(error) {
    return h(
      "div", { class: "trouble" }, h("b", {}, error.kind === "user" ? "The spec, the data or the judge must change. " : "Not the fault of the spec. "),
      text(error.message), h("small", {}, error.code),
      error.traceback ? h("details", {}, h("summary", {}, "Traceback"), h("pre", { tabindex: "0" }, text(error.traceback)), copyButton(() => error.traceback)) : null,
    );
  }
}

export const run = async (main, me, id) => {
  title(id);
  try {
    const store = await RunStore.open(id);
    new RunPage(main, me, store).begin();
  } catch (error) {
    if (error.status !== 404) throw error;
    refill(main, trouble(error), h("p", {}, h("a", { href: "/" }, "All runs")));
  }
};
