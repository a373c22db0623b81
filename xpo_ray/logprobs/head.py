"""The language-model head on response positions only, in chunks, so that full logits never exist.

Where one chunk holds all, its logits are kept for the backward pass; else each chunk's are made again there.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK_LOGITS = 2**24
"""Logits that exist at a time (64 MiB in float32)."""

Head = Callable[[Tensor], Tensor]


def token_log_probs(
    head: Head, hidden_MH: Tensor, targets_M: Tensor, vocabulary: int, *, entropy: bool
) -> tuple[Tensor, Tensor | None]:
    """Log-prob [M] of each target under the distribution that its hidden state gives, in nats, and the entropies [M]."""
    rows = max(CHUNK_LOGITS // vocabulary, 1)
    chunks = list(zip(torch.split(hidden_MH, rows), torch.split(targets_M, rows), strict=True))
    again = len(chunks) > 1 and torch.is_grad_enabled()
    parts = [_again(head, h, y, entropy) if again else _of_chunk(head, h, y, entropy) for h, y in chunks]
    logp_M = torch.cat([logp for logp, _ in parts])
    return logp_M, torch.cat([e for _, e in parts if e is not None]) if entropy else None


def _again(head: Head, hidden: Tensor, targets: Tensor, entropy: bool) -> tuple[Tensor, Tensor | None]:
    made: Any = checkpoint(_of_chunk, head, hidden, targets, entropy, use_reentrant=False, preserve_rng_state=False)
    return made[0], made[1]


def _of_chunk(head: Head, hidden: Tensor, targets: Tensor, entropy: bool) -> tuple[Tensor, Tensor | None]:
    logits_MV = head(hidden).float()
    norm_M = logits_MV.logsumexp(-1)
    logp_M = logits_MV.gather(-1, targets.unsqueeze(-1)).squeeze(-1) - norm_M
    return logp_M, _entropy(logits_MV.detach(), norm_M.detach()) if entropy else None


@torch.no_grad()
def _entropy(logits_MV: Tensor, norm_M: Tensor) -> Tensor:
    """log Z − Σ p·logit."""
    probs_MV = torch.softmax(logits_MV, dim=-1)
    entropy_M: Tensor = norm_M - torch.linalg.vecdot(probs_MV, logits_MV)
    return entropy_M
