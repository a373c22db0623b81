// What stands first where windows had no pair: how many, and why their prompts had none. The series of steps tell it.

import { h, text } from "../dom.js";
import { count } from "../format.js";

const CAUSES = {
  judge_failed: "the judge failed",
  empty: "all responses were empty",
  same_text: "chosen and rejected had the same text",
  one_score: "the judge gave one and the same score to every response of every prompt",
  equal_scores: "the judge gave chosen and rejected the same score",
  within_margin: "scores differed by no more than the tie margin",
  one_judged: "fewer than two responses were judged",
};

const total = (series) => [...(series?.values() ?? [])].reduce((sum, y) => sum + (y ?? 0), 0);

// `steps` are the series by name, each from step to value.
export const unlearned = (steps, spec) => {
  const pairs = [...(steps.get("pairs")?.values() ?? [])];
  const without = pairs.filter((y) => y === 0).length;
  if (!without) return null;
  const then = spec.training?.bonus_without_pairs ? "trained the exploration bonus alone" : "took no optimizer step";
  const why = Object.entries(CAUSES).map(([cause, words]) => [total(steps.get(`no_pair/${cause}`)), words]).filter(([n]) => n).sort(([a], [b]) => b - a);
  const head = without === pairs.length
    ? `Nothing is learned from preferences: no window had a pair so far (${count(without, "window")}), and they ${then}.`
    : `${without.toLocaleString("en")} of ${count(pairs.length, "window")} had no pair and ${then}.`;
  const reasons = why.map(([n, words]) => h("li", {}, `${words} (${count(n, "prompt")})`));
  return h("div", { class: 2 * without > pairs.length ? "trouble" : "note", role: "status" }, text(head), reasons.length ? h("ul", {}, reasons) : null);
};
