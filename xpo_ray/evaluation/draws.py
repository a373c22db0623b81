"""Held-out draws and log-probs, made by the actors that hold the policy and the base."""

from collections.abc import Sequence
from typing import Any, Protocol

import pyarrow as pa

from xpo_ray.algorithms import Draw
from xpo_ray.evaluation.table import BASED, DRAWN, extended
from xpo_ray.generation.engine import DrawContext, Sampling
from xpo_ray.logprobs import PromptGroup


class Drawer(Protocol):
    """A policy: xpo_ray.policy.Policy, or one that another engine draws for."""

    def draw(
        self, work: Sequence[tuple[pa.Table, DrawContext]], draw: Draw, sampling: Sampling
    ) -> list[list[dict[str, Any]]]: ...

    def logps(self, groups: Sequence[PromptGroup], version: int) -> list[list[float]]: ...


def draw_held_out(policy: Drawer, shard: pa.Table, sampling: Sampling, run_seed: int, version: int) -> pa.Table:
    """PROMPTS → DRAWN: one response per held-out prompt, and log-probs under the same weights."""
    greedy = sampling.temperature == 0.0
    draw = Draw("policy", decoding="greedy" if greedy else "sample")
    context = DrawContext(run_seed, "evaluation", 0, version)
    drawn = [c[0] for c in policy.draw([(shard, context)], draw, sampling)]
    rows = shard.to_pylist()
    paired = [r["chosen_ids"] is not None and r["rejected_ids"] is not None for r in rows]
    groups = [
        PromptGroup(r["prompt_ids"], (d["ids"], r["chosen_ids"], r["rejected_ids"]) if p else (d["ids"],))
        for r, d, p in zip(rows, drawn, paired, strict=True)
    ]
    logps = policy.logps(groups, version)
    columns = {
        "response": [d["text"] for d in drawn],
        "ids": [d["ids"] for d in drawn],
        "ended": [d["ended"] for d in drawn],
        "logp": [v[0] for v in logps],
        "chosen_logp": [v[1] if p else None for v, p in zip(logps, paired, strict=True)],
        "rejected_logp": [v[2] if p else None for v, p in zip(logps, paired, strict=True)],
    }
    return extended(shard, DRAWN, columns)


def add_base(base: Drawer, drawn: pa.Table) -> pa.Table:
    """DRAWN → BASED: what the base thinks of the responses."""
    rows = drawn.select(["prompt_ids", "ids"]).to_pylist()
    groups = [PromptGroup(r["prompt_ids"], (r["ids"],)) for r in rows]
    return extended(drawn, BASED, {"base_logp": [v[0] for v in base.logps(groups, 0)]})
