// The attempts of a run: how each went and ended, with the traceback of what ended it.

import { jobPage, outside } from "../cluster.js";
import { get } from "../calls.js";
import { h, refill, text } from "../dom.js";
import { date, duration, words } from "../format.js";
import { empty, trouble } from "../shell.js";

const took = (attempt) => {
  const end = attempt.ended_at ? Date.parse(attempt.ended_at) : Date.now();
  return duration((end - Date.parse(attempt.claimed_at ?? attempt.started_at)) / 1000);
};

export const attempts = (store) => {
  const element = h("div", {});
  let cluster = null;

  const one = (attempt) => h(
    "article", { class: "group" },
    h("h3", {}, `Attempt ${attempt.number}`, " ", h("span", { class: `status ${attempt.ending ?? attempt.state}` }, words(attempt.ending ?? attempt.state))),
    h("p", { class: "facts" }, h("time", { datetime: attempt.started_at }, date(attempt.started_at)), h("span", {}, `${attempt.ended_at ? "took" : "for"} ${took(attempt)}`), attempt.claimed_at ? null : h("span", {}, "its driver never came up"), h("a", { href: "#logs" }, "Logs"), jobPage(cluster, attempt.ray_job) ? outside(jobPage(cluster, attempt.ray_job), "Ray job") : null, h("code", {}, attempt.ray_job)),
    attempt.error ? h("div", { class: "trouble" }, text(attempt.error.message), h("small", {}, `${attempt.error.code} · ${attempt.error.kind === "user" ? "the spec, the data or the judge must change" : "not the fault of the spec"}`), attempt.error.traceback ? h("details", { open: true }, h("summary", {}, "Traceback"), h("pre", { tabindex: "0" }, text(attempt.error.traceback))) : null) : null,
  );

  const read = async () => {
    try {
      const found = await get(`${store.path}/attempts`);
      refill(element, found.length ? [...found].sort((a, b) => b.number - a.number).map(one) : empty("No attempt yet.", "The first begins when the queue lets the run in."));
    } catch (error) {
      refill(element, trouble(error));
    }
  };
  get("/cluster").then((found) => {
    cluster = found;
    read();
  }).catch(() => null);
  store.addEventListener("iteration", read);
  store.addEventListener("events", ({ detail }) => {
    if (detail.some((event) => event.type.startsWith("attempt_") || event.type === "status_changed")) read();
  });
  read();
  return { element };
};
