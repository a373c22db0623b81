"""Shard tables made by hand for the tests: candidates, preferences and scored shards of the declared schemas."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from xpo_ray.shards import PREFERENCES, PROMPTS, SCORED


def prompts(prompt_ids: Sequence[Sequence[int]], *, pairs: bool = False, first_row: int = 0) -> pa.Table:
    """A PROMPTS shard; with `pairs` each prompt brings a chosen and a rejected answer of its own."""
    rows = [_prompt(first_row + i, ids) | (_pair(first_row + i) if pairs else {}) for i, ids in enumerate(prompt_ids)]
    return pa.Table.from_pylist(rows, schema=PROMPTS)


def candidate(origin: str, ids: Sequence[int], *, ended: bool = True, sample: int = 0) -> dict[str, Any]:
    """A candidate whose text spells its ids; a draw of version 0, or the dataset's."""
    version = -1 if origin in ("chosen", "rejected") else 0
    text = " ".join(map(str, ids))
    return {"origin": origin, "sample": sample, "version": version, "text": text, "ids": list(ids), "ended": ended}


def pair(chosen: int, rejected: int, *comparators: int, **changes: Any) -> dict[str, Any]:
    """A preference between two candidates."""
    return {
        "outcome": "pair",
        "chosen": chosen,
        "rejected": rejected,
        "comparators": list(comparators),
        "label": 1.0,
        "weight": 1.0,
        "wins_chosen": 0.75,
        "wins_rejected": 0.25,
        "reason": None,
    } | changes


def tie(chosen: int, rejected: int, *comparators: int) -> dict[str, Any]:
    """A masked preference: the comparators stay."""
    return pair(chosen, rejected, *comparators, outcome="tie", label=0.5, weight=0.0, reason="tied")


def dropped() -> dict[str, Any]:
    """Nothing is trained on."""
    nothing = {"chosen": None, "rejected": None, "wins_chosen": None, "wins_rejected": None}
    return pair(0, 0) | nothing | {"outcome": "dropped", "label": 0.5, "weight": 0.0, "reason": "no score"}


def preferences(
    prompt_ids: Sequence[Sequence[int]],
    candidates: Sequence[Sequence[dict[str, Any]]],
    chosen: Sequence[dict[str, Any]],
    *,
    first_row: int = 0,
) -> pa.Table:
    """A PREFERENCES shard."""
    rows = _preferred(prompt_ids, candidates, chosen, first_row)
    return pa.Table.from_pylist(rows, schema=PREFERENCES)


def scored(
    prompt_ids: Sequence[Sequence[int]],
    candidates: Sequence[Sequence[dict[str, Any]]],
    chosen: Sequence[dict[str, Any]],
    logps: Sequence[Sequence[float | None]],
    *,
    first_row: int = 0,
) -> pa.Table:
    """A SCORED shard with these reference log-probs."""
    rows = _preferred(prompt_ids, candidates, chosen, first_row)
    rows = [row | {"reference_logps": list(values)} for row, values in zip(rows, logps, strict=True)]
    return pa.Table.from_pylist(rows, schema=SCORED)


def _preferred(
    prompt_ids: Sequence[Sequence[int]],
    candidates: Sequence[Sequence[dict[str, Any]]],
    chosen: Sequence[dict[str, Any]],
    first_row: int,
) -> list[dict[str, Any]]:
    judgement = {"status": "judged", "scores": None, "wins": None, "judge": "by hand", "reason": None, "tries": 1}
    return [
        _prompt(first_row + i, ids) | {"candidates": list(responses), "judgement": judgement, "preference": preference}
        for i, (ids, responses, preference) in enumerate(zip(prompt_ids, candidates, chosen, strict=True))
    ]


def _prompt(row: int, ids: Sequence[int]) -> dict[str, Any]:
    message = {"role": "user", "content": f"question {row}"}
    return {"row": row, "prompt_id": f"p{row}", "prompt": [message], "prompt_ids": list(ids)}


def _pair(row: int) -> dict[str, Any]:
    return {
        "chosen": f"good {row}",
        "chosen_ids": [11, row % 7, 1],
        "chosen_ended": True,
        "rejected": f"bad {row}",
        "rejected_ids": [12, 13, row % 7, 1],
        "rejected_ended": False,
    }
