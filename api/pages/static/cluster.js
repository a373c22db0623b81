// The cluster in one line: whether it is alive, what is reserved, how long the queue is, and where its dashboard stands.

import { get } from "./calls.js";
import { h, refill } from "./dom.js";
import { number } from "./format.js";
import { repeat } from "./live.js";

const UNITS = { cpus: "CPUs", gpus: "GPUs", memory_gib: "GiB memory" };

// Only a web address becomes a link.
export const web = (address) => {
  const target = URL.parse(address ?? "");
  return target && ["http:", "https:"].includes(target.protocol) ? target.href.replace(/\/$/, "") : null;
};

export const jobPage = (cluster, job) => {
  const dashboard = web(cluster?.dashboard);
  return dashboard && job ? `${dashboard}/#/jobs/${encodeURIComponent(job)}` : null;
};

export const outside = (href, label) => h("a", { href, target: "_blank", rel: "noreferrer noopener" }, label, h("span", { "aria-hidden": "true" }, " ↗"), h("span", { class: "aside" }, " (new tab)"));

export const clusterStrip = () => {
  const strip = h("p", { class: "strip" });
  repeat(async () => {
    const cluster = await get("/cluster");
    const used = Object.entries(UNITS)
      .filter(([name]) => cluster.totals?.[name])
      .map(([name, unit]) => h("span", {}, `${number(cluster.reserved?.[name] ?? 0)} of ${number(cluster.totals[name])} ${unit} reserved`));
    const dashboard = web(cluster.dashboard);
    refill(
      strip,
      h("span", { class: cluster.alive ? "good" : "bad" }, cluster.alive ? "Ray is up" : "Ray does not answer"), used,
      cluster.queue_length ? h("span", {}, `${cluster.queue_length} queued`) : null, dashboard ? outside(dashboard, "Ray dashboard") : null,
    );
  }, 10, () => refill(strip));
  return strip;
};
