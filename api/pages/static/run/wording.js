// An event in a few words. What is unknown is shown as its fields.

import { duration, fixed, number, percent } from "../format.js";

const SAYS = {
  run_queued: () => "waits for its turn",
  run_edited: (p) => `changed: ${Object.keys(p).join(", ")}`,
  status_changed: (p) => `${p.from} → ${p.to}${p.why ? `: ${p.why}` : ""}`.replaceAll("_", " "),
  run_started: (p) => `${p.iterations} iterations, ${p.total_steps} steps`,
  data_read: (p) => `${p.name}: ${p.kept} of ${p.read} prompts kept${p.dropped_overlong ? `, ${p.dropped_overlong} too long` : ""}${p.invalid_rows ? `, ${p.invalid_rows} invalid` : ""}`,
  run_resumed: (p) => `from ${p.checkpoint ?? "the base"} at step ${p.total_steps}, ${p.adopted_tables} tables kept`,
  iteration_started: (p) => `iteration ${p.iteration}: ${p.prompts} prompts, ${p.shards} shards, ${p.steps} steps, κ ${number(p.kappa)}, learning rate ${number(p.learning_rate)}`,
  shard_done: (p) => `iteration ${p.iteration}, shard ${p.shard}: ${p.stage}, ${p.prompts} prompts in ${duration(p.seconds)}${p.fresh ? "" : " (was there)"}`,
  step_done: (p) => p.metrics?.skipped ? `step ${p.total_step} of iteration ${p.iteration}: skipped, its window has no pair${p.replayed ? " (done again)" : ""}` : `step ${p.total_step} of iteration ${p.iteration}: loss ${number(p.metrics?.loss)}, accuracy ${percent(p.metrics?.["rewards/accuracies"], 0)}${p.replayed ? " (done again)" : ""}`,
  iteration_published: (p) => `iteration ${p.iteration} at step ${p.total_steps}${p.checkpoint ? `: ${p.checkpoint}` : ""}`,
  weights_served: (p) => `${p.role} serves version ${p.version} (${p.engine}): canary ${number(p.canary)}${p.trainer_canary === null ? "" : `, the trainer's ${number(p.trainer_canary)}`}`,
  evaluation_done: (p) => `iteration ${p.iteration}: reward ${fixed(p.metrics?.reward)}${p.metrics?.["win_rate/base"] === null || p.metrics?.["win_rate/base"] === undefined ? "" : `, wins ${percent(p.metrics["win_rate/base"])} against the base`}`,
  actor_replaced: (p) => `${p.role} died (${p.reason}); restart ${p.restarts}`,
  warned: (p) => `${p.code}: ${p.message}`,
  run_finished: (p) => `${p.status} after ${duration(p.seconds)}${p.error ? `: ${p.error}` : ""}`,
};

const fields = (payload) => Object.entries(payload).map(([name, value]) => `${name}: ${typeof value === "object" ? JSON.stringify(value) : value}`).join(", ");

export const wordsOf = ({ type, payload }) => (SAYS[type] ? SAYS[type](payload) : fields(payload));
