// What stands around every page: the head with its links, the banner of a lost connection, dialogs and short notices.

import { connection, Problem, send } from "./calls.js";
import { h, plain, refill, text } from "./dom.js";

const LINKS = [["Runs", "/"], ["Datasets", "/datasets"], ["Keys", "/keys"]];

export const may = (me, scope) => {
  const includes = { admin: ["admin", "submit", "label", "read"], submit: ["submit", "read"], label: ["label"], read: ["read"] };
  return me.scopes.some((own) => includes[own]?.includes(scope));
};

export const title = (name) => {
  document.title = `${plain(name)} · xpo_ray`;
};

export const head = (me) => {
  const here = location.pathname;
  const links = LINKS.filter(([name]) => name !== "Keys" || may(me, "admin")).map(([name, href]) =>
    h("a", { href, "aria-current": href === here || (href === "/" && here.startsWith("/runs/")) ? "page" : null }, name),
  );
  refill(
    document.getElementById("top"),
    h("a", { class: "brand", href: "/" }, "xpo_ray"),
    h("nav", { "aria-label": "Pages" }, links),
    h("span", { class: "me" }, text(me.name, { title: `key ${me.id}` })),
    h("button", { type: "button", class: "plain", onclick: logout }, "Log out"),
  );
};

const logout = async () => {
  await send("DELETE", "/session").catch(() => null);
  location.assign("/login");
};

export const watchConnection = () => {
  const banner = document.getElementById("banner");
  connection.addEventListener("away", () => {
    refill(banner, h("span", {}, `${plain(connection.why)} Trying again …`), h("button", { type: "button", onclick: () => connection.retry() }, "Now"));
    banner.hidden = false;
  });
  connection.addEventListener("back", () => {
    banner.hidden = true;
    notice("The service answers again.");
  });
};

// Words that go by themselves; read aloud by screen readers.
export const notice = (words, tone = "") => {
  const shelf = document.getElementById("notices") ?? document.body.appendChild(h("div", { id: "notices", role: "status" }));
  const note = h("p", { class: tone }, plain(words));
  shelf.append(note);
  setTimeout(() => note.remove(), tone === "bad" ? 9000 : 4000);
};

// An error where its content would stand: the service's own words, its code, and the id under which its log has it.
export const trouble = (error) => {
  const known = error instanceof Problem;
  const faults = known && error.errors.length > 1 ? h("ul", {}, error.errors.map((e) => h("li", {}, text(`${e.field}: ${e.detail}`)))) : null;
  const small = known ? h("small", {}, `${error.code}${error.requestId ? ` · request ${error.requestId}` : ""}`) : null;
  return h("div", { class: "trouble", role: "alert" }, text(error.message), faults, small);
};

export const complain = (error) => notice(error.message, "bad");

// A question in a modal dialog; resolves to whether it was confirmed.
export const confirmed = ({ question, detail, yes, danger = false }) =>
  new Promise((resolve) => {
    const dialog = h(
      "dialog", { "aria-labelledby": "question" },
      h("form", { method: "dialog" },
        h("h2", { id: "question" }, question), h("p", {}, detail),
        h("p", { class: "buttons" }, h("button", { value: "no" }, "Go back"), h("button", { value: "yes", class: danger ? "danger" : "primary" }, yes))),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });

export const copyButton = (what, label = "Copy") =>
  h("button", {
    type: "button",
    onclick: async (event) => {
      const button = event.currentTarget;
      await copied(what());
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = label), 1500);
    },
  }, label);

// Browsers offer the clipboard to pages of https and of this machine alone.
const copied = async (words) => {
  if (navigator.clipboard) return navigator.clipboard.writeText(words);
  const field = document.body.appendChild(h("textarea", { class: "aside", "aria-hidden": "true", value: words }));
  field.select();
  document.execCommand("copy");
  field.remove();
  return undefined;
};

export const status = (name) => h("span", { class: `status ${name}` }, name.replaceAll("_", " "));

export const empty = (headline, ...more) => h("div", { class: "empty" }, h("p", { class: "headline" }, headline), more.map((m) => h("p", {}, m)));
