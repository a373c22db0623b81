"""Reference log-probs: the step from PREFERENCES to SCORED. Called by the actor that holds the reference's weights."""

from collections.abc import Sequence
from typing import Literal

import pyarrow as pa
import torch
from torch import nn

from xpo_ray.examples import trained_candidates
from xpo_ray.logprobs import LogProbFunction, PromptGroup, micro_batches, precision
from xpo_ray.shards import SCORED, with_column


def score_references(
    preferences: pa.Table,
    model: nn.Module,
    log_probs: LogProbFunction,
    *,
    dtype: Literal["float32", "bfloat16"],
    micro_batch_tokens: int,
) -> pa.Table:
    """Add reference_logps: for each candidate that is trained on, else null."""
    rows = preferences.select(["prompt_ids", "candidates", "preference"]).to_pylist()
    used = [trained_candidates(row["preference"]) for row in rows]
    groups = [
        PromptGroup(row["prompt_ids"], tuple(row["candidates"][k]["ids"] for k in ks))
        for row, ks in zip(rows, used, strict=True)
    ]
    summed = sequence_logps(model, groups, log_probs, dtype=dtype, micro_batch_tokens=micro_batch_tokens)
    values: list[object] = []
    for row, ks, logps in zip(rows, used, summed, strict=True):
        known = dict(zip(ks, logps, strict=True))
        values.append([known.get(k) for k in range(len(row["candidates"]))])
    return with_column(preferences, SCORED, reference_logps=values)


@torch.no_grad()
def sequence_logps(
    model: nn.Module,
    groups: Sequence[PromptGroup],
    log_probs: LogProbFunction,
    *,
    dtype: Literal["float32", "bfloat16"],
    micro_batch_tokens: int,
) -> list[list[float]]:
    """Summed log-prob in nats of every response of every group."""
    out: list[list[float]] = [[] for _ in groups]
    filled = [i for i, g in enumerate(groups) if g.responses]
    device = next(model.parameters()).device
    for batch in micro_batches([groups[i] for i in filled], micro_batch_tokens, log_probs):
        chosen = [filled[i] for i in batch]
        with precision(dtype, device):
            flat = iter(log_probs(model, [groups[i] for i in chosen]).logp_S.tolist())
        for i in chosen:
            out[i] = [next(flat) for _ in groups[i].responses]
    return out
