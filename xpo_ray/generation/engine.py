"""What the scheduler asks of an engine, and how its draws become the candidates of a shard. No torch at import."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from xpo_ray.algorithms import Draw
from xpo_ray.seeds import seed_of
from xpo_ray.shards import CANDIDATES, with_column
from xpo_ray.spec.training import SamplingSpec


@dataclass(frozen=True)
class Sampling:
    """How one batch is drawn; `temperature` 0 means greedy."""

    temperature: float
    top_p: float
    top_k: int | None
    max_new_tokens: int
    min_new_tokens: int = 0


@dataclass(frozen=True)
class Drawn:
    """A completion: its token ids, EOS included where it was drawn, and whether it was."""

    ids: tuple[int, ...]
    ended: bool


class Engine(Protocol):
    """Draws responses from one set of weights."""

    def draw(self, prompts: Sequence[Sequence[int]], seeds: Sequence[int], sampling: Sampling) -> list[Drawn]: ...


class Decoder(Protocol):
    """Turns token ids into text, EOS and other special tokens left out."""

    def decode(self, ids: Sequence[int]) -> str: ...


def sampling_of(spec: SamplingSpec, greedy: bool) -> Sampling:
    """The spec's sampling for a draw that is sampled or greedy."""
    if greedy:
        return Sampling(0.0, 1.0, None, spec.max_new_tokens, spec.min_new_tokens)
    return Sampling(spec.temperature, spec.top_p, spec.top_k, spec.max_new_tokens, spec.min_new_tokens)


@dataclass(frozen=True)
class DrawContext:
    """What makes the seeds of a shard's draws: run, purpose, iteration; the row and the sample index come with the shard."""

    run_seed: int
    purpose: str
    iteration: int
    version: int


def draw_responses(
    engine: Engine, decoder: Decoder, shard: pa.Table, draw: Draw, sampling: Sampling, context: DrawContext
) -> list[list[dict[str, Any]]]:
    """`draw.samples` candidates for each row of a shard, as values of shards.CANDIDATE."""
    rows, prompts = shard["row"].to_pylist(), shard["prompt_ids"].to_pylist()
    places = [(i, sample) for i in range(len(rows)) for sample in range(draw.samples)]
    seeds = [seed_of(context.run_seed, context.purpose, context.iteration, rows[i], s) for i, s in places]
    drawn = engine.draw([prompts[i] for i, _ in places], seeds, sampling)
    out: list[list[dict[str, Any]]] = [[] for _ in rows]
    for (i, sample), one in zip(places, drawn, strict=True):
        out[i].append(
            {
                "origin": draw.source,
                "sample": sample,
                "version": context.version,
                "text": decoder.decode(one.ids),
                "ids": list(one.ids),
                "ended": one.ended,
            }
        )
    return out


def with_candidates(shard: pa.Table, drawn: list[list[dict[str, Any]]]) -> pa.Table:
    """The shard with further candidates behind those it has; the dataset's columns stay until all draws are made."""
    before = shard["candidates"].to_pylist() if "candidates" in shard.column_names else [[] for _ in drawn]
    column = pa.array([b + d for b, d in zip(before, drawn, strict=True)], CANDIDATES.field("candidates").type)
    kept = shard.drop_columns(["candidates"]) if "candidates" in shard.column_names else shard
    return kept.append_column(CANDIDATES.field("candidates"), column)


def complete_candidates(shard: pa.Table, *, dataset_candidates: bool) -> pa.Table:
    """The CANDIDATES table of a shard: its draws, and behind them the dataset's chosen and rejected where they take part."""
    drawn = (
        shard["candidates"].to_pylist() if "candidates" in shard.column_names else [[] for _ in range(shard.num_rows)]
    )
    values = [
        d + (_dataset(row) if dataset_candidates else []) for d, row in zip(drawn, shard.to_pylist(), strict=True)
    ]
    kept = shard.drop_columns(["candidates"]) if "candidates" in shard.column_names else shard
    return with_column(kept, CANDIDATES, candidates=values)


def _dataset(row: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "origin": origin,
            "sample": 0,
            "version": -1,
            "text": row[origin],
            "ids": row[f"{origin}_ids"],
            "ended": row[f"{origin}_ended"],
        }
        for origin in ("chosen", "rejected")
    ]
