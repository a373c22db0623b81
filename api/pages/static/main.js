// Which page stands at this address, and who looks at it.

import { get, Problem } from "./calls.js";
import { h, refill } from "./dom.js";
import { datasets } from "./datasets.js";
import { keys } from "./keys.js";
import { login } from "./login.js";
import { run } from "./run.js";
import { runs } from "./runs.js";
import { head, trouble, watchConnection } from "./shell.js";

const PAGES = [
  [/^\/$/, runs],
  [/^\/runs\/([^/]+)$/, run],
  [/^\/datasets$/, datasets],
  [/^\/keys$/, keys],
];

const main = document.getElementById("main");

const start = async () => {
  watchConnection();
  const me = await get("/session");
  head(me);
  const [pattern, show] = PAGES.find(([address]) => address.test(location.pathname));
  await show(main, me, ...location.pathname.match(pattern).slice(1).map(decodeURIComponent));
};

const begin = () =>
  start().catch((error) => {
    if (error instanceof Problem && error.status === 401) return;
    const again = h("button", { type: "button", onclick: () => location.reload() }, "Load the page again");
    refill(main, trouble(error), again);
    if (!(error instanceof Problem)) setTimeout(() => location.reload(), 5000);
  });

if (location.pathname === "/login") login(main);
else begin();
