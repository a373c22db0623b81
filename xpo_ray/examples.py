"""Rows of SCORED tables as the trainer reads them: which candidates a loss needs, each once, and the pairs among them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from xpo_ray.logprobs import PromptGroup
from xpo_ray.objectives import Pairs


@dataclass(frozen=True)
class Example:
    """One prompt of a window with the responses that are trained on, each once, and what the loss needs of them."""

    group: PromptGroup
    reference_logps: tuple[float, ...]
    chosen: int | None
    rejected: int | None
    comparators: tuple[int, ...]
    label: float
    weight: float
    wins: tuple[float, float]
    origins: tuple[str, ...]


def trained_candidates(preference: dict[str, Any]) -> list[int]:
    """Indices of the candidates that a loss reads, each once."""
    if preference["outcome"] == "dropped":
        return []
    pair = [preference["chosen"], preference["rejected"]] if preference["weight"] > 0 else []
    return sorted({*pair, *preference["comparators"]})


def example(row: dict[str, Any]) -> Example | None:
    """A SCORED row as an example; None where nothing of it is trained on."""
    preference, candidates = row["preference"], row["candidates"]
    used = trained_candidates(preference)
    if not used:
        return None
    paired = preference["weight"] > 0
    place = {k: i for i, k in enumerate(used)}
    return Example(
        group=PromptGroup(row["prompt_ids"], tuple(candidates[k]["ids"] for k in used)),
        reference_logps=tuple(row["reference_logps"][k] for k in used),
        chosen=place[preference["chosen"]] if paired else None,
        rejected=place[preference["rejected"]] if paired else None,
        comparators=tuple(place[k] for k in preference["comparators"]),
        label=preference["label"],
        weight=preference["weight"],
        wins=(_or_nan(preference["wins_chosen"]), _or_nan(preference["wins_rejected"])),
        origins=tuple(candidates[k]["origin"] for k in used),
    )


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def pairs_of(examples: Sequence[Example], logp_S: Tensor, tokens_S: Tensor) -> tuple[Pairs, Tensor]:
    """Pick pairs [B] and comparators [C] out of the flat log-probs [S] of a micro-batch."""
    starts = [0]
    for e in examples:
        starts.append(starts[-1] + len(e.group.responses))
    paired = [(s, e) for s, e in zip(starts, examples, strict=False) if e.chosen is not None and e.rejected is not None]
    chosen = [s + e.chosen for s, e in paired if e.chosen is not None]
    rejected = [s + e.rejected for s, e in paired if e.rejected is not None]
    reference_S = logp_S.new_tensor([r for e in examples for r in e.reference_logps])
    pairs = Pairs(
        logp_chosen_B=logp_S[chosen],
        logp_rejected_B=logp_S[rejected],
        reference_chosen_B=reference_S[chosen],
        reference_rejected_B=reference_S[rejected],
        tokens_chosen_B=tokens_S[chosen].to(logp_S.dtype),
        tokens_rejected_B=tokens_S[rejected].to(logp_S.dtype),
        label_B=logp_S.new_tensor([e.label for _, e in paired]),
        weight_B=logp_S.new_tensor([e.weight for _, e in paired]),
        wins_chosen_B=logp_S.new_tensor([e.wins[0] for _, e in paired]),
        wins_rejected_B=logp_S.new_tensor([e.wins[1] for _, e in paired]),
    )
    comparators = [s + c for s, e in zip(starts, examples, strict=False) for c in e.comparators]
    return pairs, logp_S[comparators]
