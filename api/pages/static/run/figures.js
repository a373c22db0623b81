// Which series stand in which chart, under which names; the same readings as in the report of a finished run.

const interval = (name, label, colour) => ({ name, label, colour, low: `${name}/low`, high: `${name}/high` });
const line = (name, label, colour) => ({ name, label, colour });

export const EVALUATED = [
  { title: "Held-out reward", reading: "The judge's score of responses to held-out prompts, 95 % interval; 0 is the base.", unit: "score", lines: [interval("reward", "reward", "evaluate")] },
  { title: "Win rate", reading: "Of the model after an iteration, ties half; 50 % is no better.", unit: "", percent: true, line: 0.5, lines: [interval("win_rate/base", "against the base", "evaluate"), line("win_rate/previous", "against the iteration before", "reference")] },
  { title: "Distance from the base", reading: "KL(π‖base) on held-out draws, two estimators.", unit: "nats per response", zero: true, lines: [line("kl/k1", "k1", "draw"), line("kl/k3", "k3", "judge")] },
  { title: "Held-out length", reading: "Tokens of a response; reward that grows with length alone is a warning.", unit: "tokens", lines: [line("length", "length", "draw")] },
];

export const STEPPED = [
  { title: "Loss", reading: "And its parts; log 2 = 0.693 is a model that equals its reference.", unit: "per pair", lines: [line("loss", "loss", "train"), line("loss/preference", "preference", "draw")] },
  { title: "Exploration bonus", reading: "κ · log π on the comparator, the loss's other part.", unit: "per comparator", some: true, lines: [line("loss/bonus", "bonus", "judge")] },
  { title: "Accuracy", reading: "Pairs whose chosen response has the larger implicit reward; 50 % is chance.", unit: "", percent: true, line: 0.5, lines: [line("rewards/accuracies", "accuracy", "draw")] },
  { title: "Implicit rewards", reading: "β(log π − log π_ref); both may fall while the margin grows.", unit: "nats × β", zero: true, lines: [line("rewards/margins", "margin", "train"), line("rewards/chosen", "chosen", "chosen"), line("rewards/rejected", "rejected", "rejected")] },
  { title: "KL within the iteration", reading: "On each step's draws, against the iteration's reference; the policy's at its first step alone.", unit: "nats per response", zero: true, lines: [line("kl/reference_policy", "KL(π_ref‖π)", "reference"), line("kl/policy_reference", "KL(π‖π_ref)", "draw")] },
  { title: "Log-ratio on draws", reading: "Of policy and reference, on the draws that are trained on; a KL only where the chart above is drawn too.", unit: "nats per response", zero: true, lines: [line("log_ratio/reference_draws", "log π_ref − log π", "reference"), line("log_ratio/policy_draws", "log π − log π_ref", "draw")] },
  { title: "Length of draws", reading: "Mean of the responses that were drawn for a step.", unit: "tokens", lines: [line("draws/length", "length", "draw")] },
  { title: "Gradient norm", reading: "Before clipping, on a log scale.", unit: "norm", log: true, lines: [line("grad_norm", "norm", "train")] },
  { title: "Learning rate", reading: "What the optimizer was given.", unit: "", zero: true, lines: [line("learning_rate", "learning rate", "draw")] },
];

const STAGES = { candidates: ["draw", "draw"], preferences: ["judge", "judge"], scored: ["reference log-probs", "reference"], train: ["train", "train"], "held-out": ["evaluation", "evaluate"] };

export const THROUGHPUT = { title: "Throughput by stage", reading: "Prompts each stage finished in a second of its work.", unit: "prompts/s", zero: true };

export const stageOf = (name) => STAGES[name] ?? [name, "base"];
