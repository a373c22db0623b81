// The login: a key for a session cookie. The key is sent once and kept nowhere in the browser.

import { send } from "./calls.js";
import { h, refill } from "./dom.js";
import { title, trouble } from "./shell.js";

// Only an address of this site, so that no link can lead a visitor away behind the login.
const next = () => {
  const wanted = new URLSearchParams(location.search).get("next") ?? "/";
  const target = new URL(wanted, location.origin);
  return wanted.startsWith("/") && target.origin === location.origin && target.pathname !== "/login"
    ? target.pathname + target.search + target.hash
    : "/";
};

export const login = (main) => {
  title("Log in");
  const field = h("input", {
    id: "key", type: "password", autocomplete: "off", spellcheck: "false", required: true, placeholder: "xpo_…",
  });
  const button = h("button", { class: "primary" }, "Log in");
  const fault = h("div", { "aria-live": "assertive" });

  const enter = async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      await send("POST", "/session", { key: field.value.trim() });
      field.value = "";
      location.replace(next());
    } catch (error) {
      refill(fault, trouble(error));
      button.disabled = false;
      field.select();
    }
  };

  refill(
    main,
    h("form", { class: "login", onsubmit: enter },
      h("h1", {}, "xpo_ray"),
      h("p", { class: "lead" }, "Preference optimisation runs on this cluster."),
      h("label", { for: "key" }, "API key"), field, button, fault,
      h("p", { class: "hint" }, "The first start of the service printed an admin key; admins make more of them under Keys. The key is exchanged for a session; this browser does not keep it.")),
  );
  field.focus();
};
