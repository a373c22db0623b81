// Published checkpoints with what the evaluation said of each, and their files to download.

import { get } from "../calls.js";
import { h, plain, refill, text } from "../dom.js";
import { age, bytes, date, fixed, number, percent } from "../format.js";
import { empty, trouble } from "../shell.js";

const METRICS = [["reward", "Reward", fixed], ["win_rate/base", "Win rate", percent], ["kl/k1", "KL", number], ["length", "Length", number]];

export const checkpoints = (store) => {
  const element = h("div", {});
  const folder = (checkpoint) => `/v1${store.path}/checkpoints/${encodeURIComponent(checkpoint.id)}`;

  const files = (checkpoint) => h(
    "details", {}, h("summary", {}, `${checkpoint.files.length} files`),
    h("ul", { class: "files" }, checkpoint.files.map((file) => h("li", {},
      h("a", { href: `${folder(checkpoint)}/files/${encodeURIComponent(file.id)}`, download: "" }, text(file.name)), ` ${bytes(file.size)} `, h("code", { title: `sha256 ${file.sha256}` }, file.sha256.slice(0, 12))))),
  );

  const row = (checkpoint) => h(
    "tr", { class: checkpoint.selected ? "selected" : "" },
    h("th", { scope: "row" }, checkpoint.step ? `${checkpoint.iteration}, step ${checkpoint.step}` : `iteration ${checkpoint.iteration}`, checkpoint.selected ? h("span", { class: "tag good" }, "result") : null),
    h("td", {}, h("time", { datetime: checkpoint.created_at, title: date(checkpoint.created_at) }, age(checkpoint.created_at))),
    METRICS.map(([name, , show]) => h("td", { class: "figure-cell" }, show(checkpoint.metrics?.[name]))),
    h("td", { class: "figure-cell" }, bytes(checkpoint.size)),
    h("td", {}, checkpoint.kept
      ? [h("a", { href: `${folder(checkpoint)}/archive`, download: "", "aria-label": plain(`Download iteration ${checkpoint.iteration} as one archive`) }, "Download .tar"), files(checkpoint)]
      : h("span", { class: "small" }, "files freed by retention")),
  );

  const read = async () => {
    try {
      const found = await get(`${store.path}/checkpoints`);
      if (!found.length) return refill(element, empty("No checkpoint yet.", "The first is published at the end of the first iteration."));
      const columns = ["Checkpoint", "Published", ...METRICS.map(([, label]) => label), "Size", "Files"];
      return refill(element, h("div", { class: "scroll", tabindex: "0" }, h("table", {}, h("thead", {}, h("tr", {}, columns.map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, [...found].reverse().map(row)))));
    } catch (error) {
      return refill(element, trouble(error));
    }
  };
  store.addEventListener("iteration", read);
  read();
  return { element };
};
