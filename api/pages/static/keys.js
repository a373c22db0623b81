// Keys, for admins: made, listed, revoked. A new key's secret is on the page once and nowhere else.

import { get, send } from "./calls.js";
import { h, plain, refill, text } from "./dom.js";
import { age, date } from "./format.js";
import { complain, confirmed, copyButton, empty, may, notice, title, trouble } from "./shell.js";

const SCOPES = {
  read: "look at runs and what they leave",
  submit: "start runs and change the own ones; reads too",
  label: "answer label tasks",
  admin: "everything, all runs, and keys",
};

const state = (key, now = Date.now()) => {
  if (key.revoked_at) return ["revoked", "cancelled"];
  if (key.expires_at && Date.parse(key.expires_at) <= now) return ["expired", "cancelled"];
  return ["valid", "succeeded"];
};

class Keys {
  constructor(main, me) {
    this.me = me;
    this.made = h("div", { role: "status" });
    this.fault = h("div");
    this.name = h("input", { id: "name", required: true, maxlength: "64", placeholder: "what it is for", autocomplete: "off" });
    this.days = h("input", { id: "days", type: "number", min: "1", max: "36500", step: "1", placeholder: "never" });
    this.boxes = Object.entries(SCOPES).map(([scope, about]) => [scope, h("input", { type: "checkbox", checked: scope === "read" }), about]);
    this.create = h("button", { class: "primary" }, "Create key");
    this.list = h("div", {});
    refill(main,
      h("header", { class: "pagehead" }, h("h1", {}, "Keys")),
      h("form", { class: "card", onsubmit: (event) => this.make(event) },
        h("h2", {}, "New key"),
        h("div", { class: "fields" },
          h("div", {}, h("label", { for: "name" }, "Name"), this.name),
          h("div", {}, h("label", { for: "days" }, "Expires in days"), this.days)),
        h("fieldset", {}, h("legend", {}, "Scopes"), this.boxes.map(([scope, box, about]) => h("label", { class: "check" }, box, h("b", {}, scope), h("span", { class: "small" }, about)))),
        this.fault, h("p", { class: "buttons" }, this.create)),
      this.made, this.list);
  }

  async read() {
    try {
      const keys = [];
      let after = null;
      do {
        const page = await get("/keys", { after });
        keys.push(...page.items);
        after = page.next;
      } while (after);
      this.draw(keys.sort((a, b) => b.created_at.localeCompare(a.created_at)));
    } catch (error) {
      refill(this.list, trouble(error));
    }
  }

  draw(keys) {
    const columns = ["Name", "Key", "Scopes", "State", "Made", "Last used", "Expires", ""];
    refill(this.list, keys.length ? h("div", { class: "scroll", tabindex: "0" }, h("table", { class: "keys" }, h("thead", {}, h("tr", {}, columns.map((name) => h("th", { scope: "col" }, name || h("span", { class: "aside" }, "Action"))))), h("tbody", {}, keys.map((key) => this.row(key))))) : empty("No key."));
  }

  row(key) {
    const [words, tone] = state(key);
    const when = (column, moment, none) => h("td", { "data-column": column }, moment ? h("time", { datetime: moment, title: date(moment) }, age(moment)) : none);
    const own = key.id === this.me.id;
    const revoke = h("button", { type: "button", class: "danger", "aria-label": plain(`Revoke ${key.name}`), onclick: () => this.revoke(key) }, "Revoke");
    return h("tr", {}, h("th", { scope: "row" }, text(key.name), own ? h("span", { class: "tag" }, "this session") : null), h("td", {}, h("code", {}, `${key.prefix}…`)), h("td", {}, key.scopes.join(", ")),
      h("td", {}, h("span", { class: `status ${tone}` }, words)), when("Made", key.created_at, "–"), when("Last used", key.last_used_at, "never"),
      h("td", { "data-column": "Expires" }, key.expires_at ? date(key.expires_at) : "never"), h("td", {}, words === "valid" && !own ? revoke : null));
  }

  async make(event) {
    event.preventDefault();
    const scopes = this.boxes.filter(([, box]) => box.checked).map(([scope]) => scope);
    if (!scopes.length) return void refill(this.fault, h("p", { class: "trouble", role: "alert" }, "Choose at least one scope."));
    refill(this.fault);
    this.create.disabled = true;
    try {
      const key = await send("POST", "/keys", { name: this.name.value, scopes, expires_in_days: this.days.value ? Number(this.days.value) : null });
      this.show(key);
      event.target.reset();
      await this.read();
    } catch (error) {
      refill(this.fault, trouble(error));
    } finally {
      this.create.disabled = false;
    }
    return undefined;
  }

  show(key) {
    const close = () => refill(this.made);
    refill(this.made, h("div", { class: "card secret" }, h("h2", {}, "Key ", text(key.name)), h("p", {}, "Copy it now: it is not shown again."),
      h("p", { class: "secretline" }, h("code", { id: "secret" }, key.secret), copyButton(() => key.secret), h("button", { type: "button", onclick: close }, "Done"))));
    this.made.scrollIntoView({ block: "nearest" });
  }

  async revoke(key) {
    const question = `Revoke the key ${plain(key.name)}?`;
    if (!(await confirmed({ question, detail: "Whoever uses it is refused from now on. Runs that it submitted go on.", yes: "Revoke", danger: true }))) return;
    try {
      await send("DELETE", `/keys/${encodeURIComponent(key.id)}`);
      notice(`The key ${key.name} is revoked.`);
    } catch (error) {
      complain(error);
    }
    await this.read();
  }
}

export const keys = async (main, me) => {
  title("Keys");
  if (!may(me, "admin")) return refill(main, empty("Keys are for admins.", "This session's key has not the scope admin."));
  return new Keys(main, me).read();
};
