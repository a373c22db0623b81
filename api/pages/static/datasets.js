// Datasets: uploaded with progress, listed with the report of their columns, looked into, deleted.

import { get, send, Unreachable } from "./calls.js";
import { h, plain, refill, text } from "./dom.js";
import { age, bytes, date } from "./format.js";
import { complain, confirmed, copyButton, empty, may, notice, title, trouble } from "./shell.js";
import { newKey, upload } from "./upload.js";

const PREVIEW = 5;

class Datasets {
  constructor(main, me) {
    this.me = me;
    this.list = h("div");
    this.older = h("button", { type: "button", hidden: true, onclick: () => this.read(this.next) }, "Show older datasets");
    refill(main, h("header", { class: "pagehead" }, h("h1", {}, "Datasets")), may(me, "submit") ? this.form() : null, this.list, h("p", { class: "more" }, this.older));
  }

  form() {
    this.name = h("input", { id: "name", required: true, pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]{0,62}", title: "Letters, digits, dots, dashes and underscores; a letter or digit first", placeholder: "ultrafeedback-train", autocomplete: "off" });
    this.files = h("input", { id: "files", type: "file", multiple: true, required: true, accept: ".parquet,.jsonl,.json,.csv,.gz" });
    this.bar = h("progress", { max: 1, value: 0, "aria-label": "Upload" });
    this.moved = h("span", { role: "status" });
    this.stop = h("button", { type: "button" }, "Stop");
    this.line = h("p", { class: "uploading", hidden: true }, this.bar, this.moved, this.stop);
    this.fault = h("div");
    this.submit = h("button", { class: "primary" }, "Upload");
    const renew = () => (this.key = newKey());
    renew();
    return h("form", { class: "card", onsubmit: (event) => this.send(event), oninput: renew },
      h("h2", {}, "Upload a dataset"),
      h("p", { class: "lead" }, "Parquet, JSON lines, JSON or CSV: prompts with chosen and rejected responses, or prompts alone. All rows are read before it is taken."),
      h("div", { class: "fields" }, h("div", {}, h("label", { for: "name" }, "Name"), this.name), h("div", {}, h("label", { for: "files" }, "Files"), this.files)),
      this.line, this.fault, h("p", { class: "buttons" }, this.submit));
  }

  async send(event) {
    event.preventDefault();
    refill(this.fault);
    this.submit.disabled = true;
    this.line.hidden = false;
    const running = upload(this.name.value, this.files.files, this.key, (sent, all) => this.show(sent, all));
    const stop = () => running.stop();
    const leaving = (warning) => warning.preventDefault();
    this.stop.addEventListener("click", stop);
    window.addEventListener("beforeunload", leaving);
    try {
      const dataset = await running.done;
      notice(`${dataset.name} is here: ${dataset.rows?.toLocaleString("en") ?? "some"} rows.`);
      event.target.reset();
      this.key = newKey();
      await this.read();
    } catch (error) {
      if (!(error instanceof Unreachable)) this.key = newKey();
      refill(this.fault, trouble(error));
    } finally {
      this.submit.disabled = false;
      this.line.hidden = true;
      this.stop.removeEventListener("click", stop);
      window.removeEventListener("beforeunload", leaving);
    }
  }

  show(sent, all) {
    this.bar.value = all ? sent / all : 0;
    this.moved.textContent = sent < all ? `${bytes(sent)} of ${bytes(all)}` : "All is sent; its rows are being read …";
  }

  async read(after = null) {
    try {
      const page = await get("/datasets", { after });
      this.next = page.next;
      this.older.hidden = page.next === null;
      const found = page.items.map((dataset) => this.one(dataset));
      if (after) this.list.append(...found);
      else refill(this.list, found.length ? found : empty("No dataset yet.", may(this.me, "submit") ? "Upload one, or name files and hub repositories in a spec." : null));
    } catch (error) {
      refill(this.list, trouble(error));
    }
  }

  one(dataset) {
    const preview = h("div");
    const own = may(this.me, "admin") || (may(this.me, "submit") && dataset.owner === this.me.id);
    const facts = [
      dataset.rows === null ? null : `${dataset.rows.toLocaleString("en")} rows`, dataset.bytes === null ? null : bytes(dataset.bytes),
      dataset.format, dataset.usable_for.length ? `for ${dataset.usable_for.join(", ")}` : null,
    ];
    const article = h("article", { class: "group dataset" },
      h("div", { class: "title" }, h("h2", {}, text(dataset.name), " ", h("span", { class: "tag" }, dataset.kind)), h("div", { class: "commands" }, copyButton(() => dataset.id, "Copy id"), own ? h("button", { type: "button", class: "danger", "aria-label": plain(`Delete ${dataset.name}`), onclick: () => this.remove(dataset) }, "Delete") : null)),
      h("p", { class: "facts" }, facts.filter(Boolean).map((fact) => h("span", {}, plain(fact))), h("time", { datetime: dataset.created_at, title: date(dataset.created_at) }, age(dataset.created_at)), h("code", {}, dataset.id)),
      dataset.columns.length ? this.columns(dataset) : null,
      h("details", { ontoggle: (event) => this.look(dataset, event.currentTarget, preview) }, h("summary", {}, "First rows"), preview));
    return article;
  }

  columns(dataset) {
    const row = (column) => h("tr", {}, h("th", { scope: "row" }, text(column.name)), h("td", {}, text(column.type)), h("td", {}, column.role === "unused" ? h("span", { class: "small" }, "unused") : h("b", {}, column.role.replaceAll("_", " "))), h("td", {}, column.missing ? h("span", { class: "bad" }, column.missing.toLocaleString("en")) : "none"));
    return h("div", { class: "scroll", tabindex: "0" }, h("table", { class: "compact" }, h("thead", {}, h("tr", {}, ["Column", "Type", "Role", "Missing"].map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, dataset.columns.map(row))));
  }

  async look(dataset, details, place) {
    if (!details.open || place.firstChild) return;
    try {
      const { rows } = await get(`/datasets/${encodeURIComponent(dataset.id)}/preview`, { limit: PREVIEW });
      refill(place, rows.length ? rows.map((row) => this.row(row)) : empty("It has no rows."));
    } catch (error) {
      refill(place, trouble(error));
    }
  }

  row(row) {
    const answers = [["chosen", row.chosen], ["rejected", row.rejected]].filter(([, words]) => words !== null && words !== undefined);
    return h("div", { class: "group" },
      (row.prompt ?? []).map((turn) => h("p", { class: "turn" }, h("span", { class: "role" }, plain(turn.role)), " ", text(turn.content))),
      answers.length ? h("div", { class: "answers" }, answers.map(([role, words]) => h("section", { class: `answer ${role}` }, h("h4", {}, role), h("p", { class: "body", tabindex: "0" }, text(words))))) : null,
      row.raw ? h("details", {}, h("summary", {}, "As it stands in the file"), h("dl", { class: "raw" }, Object.entries(row.raw).map(([name, words]) => [h("dt", {}, text(name)), h("dd", {}, text(words))]))) : null);
  }

  async remove(dataset) {
    const detail = dataset.kind === "uploaded" ? "Its files go for good." : "The files that it names stay where they are.";
    if (!(await confirmed({ question: `Delete the dataset ${plain(dataset.name)}?`, detail, yes: "Delete", danger: true }))) return;
    try {
      await send("DELETE", `/datasets/${encodeURIComponent(dataset.id)}`);
      notice(`${dataset.name} is deleted.`);
      await this.read();
    } catch (error) {
      complain(error);
    }
  }
}

export const datasets = async (main, me) => {
  title("Datasets");
  await new Datasets(main, me).read();
};
