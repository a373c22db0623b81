"""What to do next, as pure functions of what happened: no Ray, no clock, no files. The driver acts on the answers."""

import math
from dataclasses import dataclass
from typing import Literal

from xpo_ray.shards import STAGES, Stage

PATIENCE = 20
"""Steps without learning before the driver says so."""


def next_stage(committed: set[Stage]) -> Stage | None:
    """The stage that a shard needs next; None when it is ready for training. Later stages stand for earlier ones."""
    for done, following in zip(reversed(STAGES), (None, *reversed(STAGES)), strict=False):
        if done in committed:
            return following
    return STAGES[0]


@dataclass(frozen=True)
class Restart:
    """Start the role again after a pause."""

    after_s: float


@dataclass(frozen=True)
class GiveUp:
    """The role died too often without progress."""


def after_death(deaths: int, max_restarts: int) -> Restart | GiveUp:
    """What to do about a role that has died `deaths` times since it last finished a piece of work."""
    return GiveUp() if deaths > max_restarts else Restart(min(0.25 * 2 ** min(deaths - 1, 6), 10.0))


def judge_gave_up(prompts: int, failed: int, max_failed_fraction: float) -> bool:
    """Whether so many prompts of a shard could not be judged that the judge must be taken for dead."""
    return failed > max_failed_fraction * prompts


def out_of_reach(prompts: int, failed: int, lost: int, max_failed_fraction: float, *, down: bool) -> bool:
    """Whether a shard must wait for a remote judge, `lost` of whose failures are for want of a working endpoint: it is down
    now, or the shard would be given up and they are half of the reason. Fewer count as any other failure."""
    return lost > 0 and (down or (judge_gave_up(prompts, failed, max_failed_fraction) and 2 * lost >= failed))


def checkpoint_due(steps_since: int, every: int | None, *, border: bool, online: bool, last: bool) -> bool:
    """Whether to publish a checkpoint now: at every border, and within iterations as often as asked.

    A fully online run has a border after each step; there only the cadence and the end of the run count.
    """
    if steps_since == 0:
        return False
    if last or (border and not online):
        return True
    return every is not None and steps_since >= every and (border or not online)


def evaluation_due(total_steps: int, last_evaluated: int, every: int, *, online: bool, last: bool) -> bool:
    """Whether to evaluate at a border."""
    return not online or last or total_steps - last_evaluated >= every


def canary_agrees(engine: float, trainer: float, dtype: Literal["float32", "bfloat16"]) -> bool:
    """Whether an engine's log-prob (nats per token) of the canary text is the trainer's, up to rounding of its dtype.

    In bfloat16 rounding grows with how unlikely the text is: on SmolLM2-135M vLLM was 0.023 nats off at −4.7, 0.057 at −6.0.
    """
    tolerance = 1e-4 if dtype == "float32" else max(0.05, 0.02 * abs(trainer))
    return math.isfinite(engine) and abs(engine - trainer) <= tolerance


def flat_loss(losses: list[float], margins: list[float], patience: int = PATIENCE) -> bool:
    """The preference loss stays where it is with no margin: nothing is being learned (a wrong template, rate 0).

    Where it stays depends on the objective: log 2 (dpo), 1 (hinge), 1/(4β²) (ipo). Of rpo_sft and sppo it moves by itself, with
    the likelihood or the judge's win probabilities of each window."""
    recent, flat = losses[-patience:], [abs(m) < 1e-3 for m in margins[-patience:]]
    return len(recent) == patience and all(flat) and max(recent) - min(recent) < 2e-4 * max(1.0, abs(recent[0]))


def runaway_length(lengths: list[float], truncated: float) -> bool:
    """Held-out responses have grown by half since the base, and most of them hit the limit."""
    return len(lengths) > 1 and lengths[-1] > 1.5 * lengths[0] and truncated > 0.5


def best_iteration(rewards: dict[int, float | None], last: int) -> int:
    """The iteration with the best held-out reward, the earlier one when equal; the last where none has a reward."""
    known = {t: r for t, r in rewards.items() if r is not None}
    return max(known, key=lambda t: (known[t], -t)) if known else last
