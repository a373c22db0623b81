// The resolved spec as YAML, to read and to copy.

import { h, refill, text } from "../dom.js";
import { copyButton } from "../shell.js";
import { yaml } from "./yaml.js";

export const spec = (store) => {
  const words = yaml(store.run.spec);
  const { reservation, retention } = store.run;
  const held = [`${reservation.cpus} CPUs`, reservation.gpus ? `${reservation.gpus} GPUs` : null, reservation.memory_gib ? `${reservation.memory_gib} GiB` : null].filter(Boolean).join(", ");
  const keeps = retention.last === null ? "keeps all checkpoints" : `keeps the last ${retention.last} checkpoints${retention.best ? " and the best" : ""}`;
  const element = h("div", {});
  refill(element, h("div", { class: "search" }, h("p", { class: "lead" }, `Reserves ${held}; ${keeps}.`), copyButton(() => words, "Copy the spec")), h("pre", { class: "spec", tabindex: "0" }, text(words)));
  return { element };
};
