"""Watches the steps of an attempt for runs that learn nothing: what to warn of, and when to pause. Pure; the driver asks it.

It sees the metrics of each step and nothing else. What it says once it does not say again in the attempt.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from xpo_ray.decisions import PATIENCE, flat_loss
from xpo_ray.missing_pairs import PREFIX, likely_causes
from xpo_ray.reporting import Warned

ENOUGH_PROMPTS = 8
"""Prompts in a row without a pair, or draws that are all alike, before it is told; fewer may be chance."""
EMPTY = (
    "the first {n} draws are all empty: the model ends its answer at once. Look at the chat template, model.end_of_turn and "
    "at the model itself"
)
ALIKE = (
    "the first {n} draws have one and the same text, whatever the prompt: nothing can be preferred among them. Look at the "
    "model, the chat template and sampling.temperature"
)
FLAT = (
    "the preference loss has stayed where it was for 20 steps, with no margin between chosen and rejected: nothing is being "
    "learned. Look at the learning rate, at tie_rate, and whether the judge tells the candidates apart"
)


@dataclass
class LearningWatch:
    """`most_windows` without a pair in a row are let pass, 0: any number. `bonus_alone`: such windows train the bonus."""

    most_windows: int
    bonus_alone: bool = False
    windows: int = 0
    """In a row without a pair, up to now."""
    steps: int = 0
    paired: int = 0
    """Steps of this attempt whose window had a pair."""
    _missing: Counter[str] = field(default_factory=Counter)
    _draws: int = 0
    _empty: float = 0.0
    _distinct: float = 0.0
    _told: set[str] = field(default_factory=set)
    _losses: deque[float] = field(default_factory=lambda: deque(maxlen=PATIENCE))
    _margins: deque[float] = field(default_factory=lambda: deque(maxlen=PATIENCE))

    def restarted(self) -> None:
        """Steps are done again from a checkpoint; windows in a row are counted anew."""
        self.windows = 0
        self._missing.clear()

    def step(self, metrics: dict[str, float]) -> list[Warned]:
        """What a step's metrics give to warn of."""
        self.steps += 1
        if metrics["pairs"]:
            self.paired += 1
            self.restarted()
        else:
            self.windows += 1
            self._missing.update({name: value for name, value in metrics.items() if name.startswith(PREFIX)})
        if "rewards/margins" in metrics:
            self._losses.append(metrics["loss/preference"])
            self._margins.append(metrics["rewards/margins"])
        found = [self._no_pairs(self._missing.total() >= ENOUGH_PROMPTS), *self._of_draws(metrics)]
        if flat_loss(list(self._losses), list(self._margins)):
            found.append(Warned("flat_loss", FLAT))
        return self._new(found)

    def iteration_over(self) -> list[Warned]:
        """A short iteration may end before enough prompts were seen."""
        return self._new([self._no_pairs(self.windows > 0 and not self.paired)])

    def run_over(self) -> list[Warned]:
        """No step of the attempt had a pair: the result is what it began with, or what the bonus alone made of it."""
        if self.paired or not self.steps:
            return []
        what = (
            "the exploration bonus alone was trained"
            if self.bonus_alone
            else "the weights are those that it began with"
        )
        return self._new([Warned("nothing_learned", f"no step of this attempt had a pair: {what}")])

    @property
    def why_pause(self) -> str | None:
        """Why the run is to pause now; None while it may go on."""
        if not self.most_windows or self.windows < self.most_windows:
            return None
        return (
            f"{self.windows} windows in a row had no pair, so nothing is learned: {likely_causes(self._missing)}. What is "
            "committed stays; mend the cause, then resume the run, which counts from there "
            f"(training.max_windows_without_pairs is {self.most_windows}; 0 never pauses)"
        )

    def _no_pairs(self, enough: bool) -> Warned | None:
        if not enough or not self.windows:
            return None
        which = "a whole window" if self.windows == 1 else f"{self.windows} windows in a row"
        then = "train the exploration bonus alone" if self.bonus_alone else "take no optimizer step"
        limit = f" The run pauses after {self.most_windows} of them in a row." if self.most_windows else ""
        told = f"no pair in {which}: {likely_causes(self._missing)}. Windows without a pair {then}.{limit}"
        return Warned("no_pairs", told)

    def _of_draws(self, metrics: dict[str, float]) -> list[Warned | None]:
        """Of the first draws of the attempt alone: of later ones the charts tell."""
        if "draws/empty_rate" not in metrics or self._draws >= ENOUGH_PROMPTS:
            return []
        count = round(metrics["draws/count"])
        self._empty += metrics["draws/empty_rate"] * count
        self._distinct = max(self._distinct, metrics["draws/distinct_rate"] * count)
        self._draws += count
        if self._draws < ENOUGH_PROMPTS:
            return []
        if round(self._empty) == self._draws:
            return [Warned("empty_draws", EMPTY.format(n=self._draws))]
        return [Warned("same_draws", ALIKE.format(n=self._draws))] if round(self._distinct) == 1 else []

    def _new(self, found: Sequence[Warned | None]) -> list[Warned]:
        fresh = [w for w in found if w is not None and w.code not in self._told]
        self._told |= {w.code for w in fresh}
        return fresh
