"""Samples of a run, page by page over its committed shards: held-out responses and candidates of training prompts.

A page reads only the shards that it shows, and of them the columns that it needs. All texts are untrusted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from xpo_ray.api.artifacts.committed import Committed
from xpo_ray.api.artifacts.opening import gone, open_below
from xpo_ray.wire.artifacts import SampleView

Kind = Literal["held_out", "training"]
Row = dict[str, Any]
TRAINING_COLUMNS = ("row", "prompt", "candidates", "judgement", "preference")
RESPONSE_COLUMNS = ("response", "ids", "ended")
HELD_OUT_COLUMNS = (
    "row",
    "prompt",
    *RESPONSE_COLUMNS,
    "score",
    "base_score",
    "previous_score",
    "base_win",
    "previous_win",
)
MADE_BY_BASE = 0


@dataclass(frozen=True)
class Place:
    """Where a sample stands: the cursor of a page."""

    iteration: int
    shard: int
    row: int


def samples(
    root: Path, kind: Kind, iteration: int | None, after: Place | None, limit: int
) -> list[tuple[Place, SampleView]]:
    """At most `limit` samples behind a place, in order of iteration, shard and row. Raises Refusal for a freed table."""
    committed = Committed.of(root)
    if committed is None:
        return []
    folders = committed.held_out if kind == "held_out" else committed.training
    wanted = {t: f for t, f in sorted(folders.items()) if iteration in (None, t)}
    return list(islice(_walk(committed, kind, wanted, after), limit))


def _walk(
    committed: Committed, kind: Kind, folders: dict[int, str], after: Place | None
) -> Iterator[tuple[Place, SampleView]]:
    for iteration, folder in folders.items():
        if after is not None and iteration < after.iteration:
            continue
        here = after if after is not None and after.iteration == iteration else Place(iteration, 0, -1)
        for shard, commit in committed.shards(folder).items():
            if shard < here.shard:
                continue
            begin = here.row + 1 if shard == here.shard else 0
            if begin >= commit["rows"]:
                continue
            read = _training if kind == "training" else _held_out
            for row, view in enumerate(read(committed, iteration, shard, commit)):
                if row >= begin:
                    yield Place(iteration, shard, row), view


def _training(committed: Committed, iteration: int, _shard: int, commit: Row) -> Iterator[SampleView]:
    for row in _rows(committed.root, commit, TRAINING_COLUMNS):
        judgement, preference = row["judgement"], row["preference"]
        scores = judgement["scores"] or [None] * len(row["candidates"])
        yield SampleView(
            iteration=iteration,
            kind="training",
            row=row["row"],
            prompt=row["prompt"],
            candidates=[
                _candidate(c, scores[k], _role(k, preference), k in preference["comparators"])
                for k, c in enumerate(row["candidates"])
            ],
            note=_note(judgement, preference),
        )


def _candidate(candidate: Row, score: float | None, role: str | None, comparator: bool) -> Row:
    return {
        "text": candidate["text"],
        "origin": candidate["origin"],
        "score": score,
        "tokens": len(candidate["ids"]),
        "ended": candidate["ended"],
        "role": role,
        "comparator": comparator,
        "version": candidate["version"],
    }


def _role(index: int, preference: Row) -> str | None:
    """What a candidate is in its pair. A tie has a pair too, whose weight is 0."""
    if preference["outcome"] != "dropped":
        for role in ("chosen", "rejected"):
            if preference[role] == index:
                return role
    return "comparator" if index in preference["comparators"] else None


def _note(judgement: Row, preference: Row) -> str | None:
    if preference["outcome"] == "pair":
        return None
    reason = preference["reason"] or judgement["reason"]
    what = "failed judge" if judgement["status"] == "failed" else preference["outcome"]
    return f"{what}: {reason}" if reason and reason != what else what


def _held_out(committed: Committed, iteration: int, shard: int, commit: Row) -> Iterator[SampleView]:
    """The response of this iteration, then those of the base and of the evaluated iteration before, row by row."""
    rows = _rows(committed.root, commit, HELD_OUT_COLUMNS)
    base = _same_rows(committed, MADE_BY_BASE, shard, rows) if iteration != MADE_BY_BASE else None
    earlier = [t for t in committed.held_out if MADE_BY_BASE < t < iteration]
    previous = _same_rows(committed, max(earlier), shard, rows) if earlier else None
    for i, row in enumerate(rows):
        candidates = [_response(row, "base" if iteration == MADE_BY_BASE else "policy", iteration, row["score"])]
        candidates[0] |= {"win_base": row["base_win"], "win_previous": row["previous_win"]}
        if base is not None:
            candidates.append(_response(base[i], "base", MADE_BY_BASE, row["base_score"]))
        if previous is not None:
            candidates.append(_response(previous[i], "previous", max(earlier), row["previous_score"]))
        unjudged = "not judged: the judge failed" if row["score"] is None else None
        yield SampleView(
            iteration=iteration,
            kind="held_out",
            row=row["row"],
            prompt=row["prompt"],
            candidates=candidates,
            note=unjudged,
        )


def _same_rows(committed: Committed, iteration: int, shard: int, rows: list[Row]) -> list[Row] | None:
    """The same prompts' responses of another iteration; None where it has not been evaluated on them."""
    folder = committed.held_out.get(iteration)
    commit = committed.shards(folder).get(shard) if folder is not None else None
    if commit is None:
        return None
    others = _rows(committed.root, commit, ("row", *RESPONSE_COLUMNS))
    return others if [o["row"] for o in others] == [r["row"] for r in rows] else None


def _response(row: Row, origin: str, iteration: int, score: float | None) -> Row:
    return {
        "text": row["response"],
        "origin": origin,
        "iteration": iteration,
        "score": score,
        "tokens": len(row["ids"]),
        "ended": row["ended"],
        "role": None,
    }


def _rows(root: Path, commit: Row, columns: Sequence[str]) -> list[Row]:
    """Some columns of a committed table. Bytes are not checked against their sha256: that is for who trains on them."""
    try:
        with open_below(root, commit["path"]) as file:
            rows: list[Row] = pq.read_table(pa.PythonFile(file, mode="r"), columns=list(columns)).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise gone(f"table {commit['key']}") from error
    return rows
