// The log of an attempt, from its end backwards, following what is written while the run goes.

import { address, request } from "../calls.js";
import { h, refill, shown } from "../dom.js";
import { bytes } from "../format.js";
import { repeat } from "../live.js";
import { FINAL } from "../progress.js";
import { empty, trouble } from "../shell.js";

const PART = 65536;
const COLOURS = /\u001b\[[0-9;?]*[A-Za-z]/g;

class Logs {
  constructor(store) {
    this.store = store;
    this.attempt = h("select", { "aria-label": "Attempt", onchange: () => this.restart() });
    this.follows = h("input", { type: "checkbox", checked: true });
    this.count = h("output");
    this.earlier = h("button", { type: "button", hidden: true, onclick: () => this.before() }, "Show earlier lines");
    this.box = h("pre", { class: "log", tabindex: "0", role: "log", "aria-label": "Log" });
    this.note = h("div");
    this.element = h("div", {}, h("div", { class: "search" }, this.attempt, h("label", { class: "check" }, this.follows, "Follow"), this.earlier, this.count), this.note, this.box);
    store.addEventListener("run", () => this.offer());
    this.offer();
    this.reset();
  }

  offer() {
    const { attempt } = this.store.run;
    if (this.attempt.children.length === attempt) return;
    refill(this.attempt, Array.from({ length: attempt }, (_, i) => h("option", { value: attempt - i }, `attempt ${attempt - i}`)));
    if (this.loop) this.restart();
  }

  shown(visible) {
    this.loop?.stop();
    this.loop = visible ? repeat(() => this.read(), 3, (error) => refill(this.note, trouble(error))) : null;
  }

  reset() {
    [this.first, this.next] = [null, 0];
    refill(this.box);
    this.box.hidden = true;
  }

  restart() {
    this.reset();
    this.loop?.now();
  }

  async part(after, limit) {
    const answer = await request("GET", address(`${this.store.path}/logs`, { attempt: this.attempt.value, after, limit }));
    return { words: (await answer.text()).replace(COLOURS, ""), next: Number(answer.headers.get("X-Next-Offset")), size: Number(answer.headers.get("X-Log-Size")) };
  }

  async read() {
    if (!this.attempt.value) return void refill(this.note, empty("No log yet.", "It begins with the first attempt."));
    const chosen = this.attempt.value;
    if (this.first === null) {
      const { size } = await this.part(0, 16);
      this.first = this.next = Math.max(0, size - PART);
    }
    for (;;) {
      const { words, next, size } = await this.part(this.next, PART);
      if (chosen !== this.attempt.value) return undefined;
      this.append(words);
      const moved = next > this.next;
      this.next = next;
      this.tell(size);
      if (!moved || next >= size) break;
    }
    if (FINAL.has(this.store.run.status)) this.loop?.stop();
    return undefined;
  }

  append(words) {
    if (!words) return;
    this.box.append(...shown(words));
    this.box.hidden = false;
    if (this.follows.checked) this.box.scrollTop = this.box.scrollHeight;
  }

  tell(size) {
    this.earlier.hidden = !this.first;
    this.count.textContent = size ? `${bytes(size)}${this.first ? `, from byte ${this.first.toLocaleString("en")}` : ""}` : "";
    refill(this.note, size ? null : empty("This attempt has written nothing yet."));
  }

  async before() {
    const from = Math.max(0, this.first - PART);
    try {
      const { words } = await this.part(from, this.first - from);
      const height = this.box.scrollHeight;
      this.box.prepend(...shown(words));
      this.box.scrollTop += this.box.scrollHeight - height;
      this.first = from;
      this.earlier.hidden = !from;
    } catch (error) {
      refill(this.note, trouble(error));
    }
  }
}

export const logs = (store) => new Logs(store);
