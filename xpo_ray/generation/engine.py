"""What the scheduler asks of an engine, and the seeds that its draws get. No torch at import."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from xpo_ray.algorithms import Draw, Row
from xpo_ray.seeds import seed_of
from xpo_ray.spec.run import RunSpec
from xpo_ray.spec.training import SamplingSpec


@dataclass(frozen=True)
class Sampling:
    """How one batch is drawn; `temperature` 0 means greedy."""

    temperature: float
    top_p: float
    top_k: int | None
    max_new_tokens: int
    min_new_tokens: int = 0

    @property
    def own_distribution(self) -> bool:
        """Whether draws come from the distribution that log-probs are of, so that a mean of log-ratios over them is a KL: at
        temperature 1, from all tokens, with EOS at any place."""
        return (self.temperature, self.top_p, self.top_k, self.min_new_tokens) == (1.0, 1.0, None, 0)


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


def held_out_sampling(spec: RunSpec) -> Sampling:
    """Of held-out responses: at temperature 1 from all tokens, or greedy."""
    evaluation = spec.evaluation
    least = spec.sampling.min_new_tokens if evaluation.min_new_tokens is None else evaluation.min_new_tokens
    most = evaluation.max_new_tokens or spec.sampling.max_new_tokens
    return Sampling(1.0 if evaluation.decoding == "sample" else 0.0, 1.0, None, most, least)


def own_distributions(row: Row, sampling: SamplingSpec) -> frozenset[str]:
    """The sources, policy or reference, all of whose draws come from their own distribution."""
    sources = {draw.source for draw in row.draws}
    others = {d.source for d in row.draws if not sampling_of(sampling, d.decoding == "greedy").own_distribution}
    return frozenset(sources - others)


@dataclass(frozen=True)
class DrawContext:
    """What makes the seeds of a shard's draws: run, purpose, iteration; the row and the sample index come with the shard."""

    run_seed: int
    purpose: str
    iteration: int
    version: int


def draw_responses(
    engine: Engine, decoder: Decoder, work: Sequence[tuple[pa.Table, DrawContext]], draw: Draw, sampling: Sampling
) -> list[list[dict[str, Any]]]:
    """`draw.samples` candidates for each row of each shard, as values of shards.CANDIDATE; all are drawn as one batch."""
    prompts: list[list[int]] = []
    seeds: list[int] = []
    versions: list[int] = []
    for shard, context in work:
        for row, prompt in zip(shard["row"].to_pylist(), shard["prompt_ids"].to_pylist(), strict=True):
            for sample in range(draw.samples):
                prompts.append(prompt)
                seeds.append(seed_of(context.run_seed, context.purpose, context.iteration, row, sample))
                versions.append(context.version)
    drawn = engine.draw(prompts, seeds, sampling)
    made = [
        {
            "origin": draw.source,
            "sample": i % draw.samples,
            "version": version,
            "text": decoder.decode(one.ids),
            "ids": list(one.ids),
            "ended": one.ended,
        }
        for i, (one, version) in enumerate(zip(drawn, versions, strict=True))
    ]
    return [made[i : i + draw.samples] for i in range(0, len(made), draw.samples)]
