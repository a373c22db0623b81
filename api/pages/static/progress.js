// How far a run has come: a bar, the iteration, and what time is left.

import { h } from "./dom.js";
import { count, duration } from "./format.js";

export const FINAL = new Set(["succeeded", "failed", "cancelled"]);
export const BUSY = new Set(["starting", "running", "waiting_for_labels", "pausing", "cancelling"]);

const share = ({ steps, total_steps: total, iteration, iterations }) => {
  if (total) return Math.min(1, steps / total);
  return iterations ? iteration / iterations : 0;
};

export const bar = (run) => {
  const done = run.status === "succeeded" ? 1 : share(run.progress);
  return h("progress", { class: run.status, max: 1, value: done, "aria-label": `${Math.round(100 * done)} % of the steps` });
};

export const iterationOf = ({ iteration, iterations }) => (iterations ? `iteration ${Math.min(iteration + 1, iterations)}/${iterations}` : "");

export const told = (run) => {
  const { iteration, iterations, steps, total_steps: total } = run.progress;
  if (!iterations && !total) return "not begun";
  const borders = FINAL.has(run.status) || run.status === "paused" ? `${iteration}/${iterations} iterations` : iterationOf(run.progress);
  return `${borders} · step ${steps.toLocaleString("en")}/${total.toLocaleString("en")}`;
};

export const remaining = (run) => {
  if (run.status === "queued") return run.queue_position ? `${ordinal(run.queue_position)} in the queue` : "queued";
  if (FINAL.has(run.status)) return run.started_at ? `took ${duration((Date.parse(run.finished_at) - Date.parse(run.started_at)) / 1000)}` : "never started";
  if (run.status === "paused") return "paused";
  const left = run.progress.seconds_remaining;
  return left === null || left === undefined ? "time left not known yet" : `${duration(left)} left`;
};

const ordinal = (n) => {
  const ending = n % 100 > 10 && n % 100 < 14 ? "th" : { 1: "st", 2: "nd", 3: "rd" }[n % 10] ?? "th";
  return `${n}${ending}`;
};

export const wasted = ({ replayed_steps: replayed }) => (replayed ? `${count(replayed, "step")} done again` : null);
