"""The language-model head on response positions only, in chunks, so that full logits never exist.

Where one chunk holds all, its logits are kept for the backward pass; else each chunk's are made again there.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
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
    made: Any = TargetLogProbs.apply(head(hidden).float(), targets, entropy)  # type: ignore[no-untyped-call]
    return made[0], made[1] if entropy else None


class TargetLogProbs(torch.autograd.Function):
    """log softmax(logits) at the targets [M] and the entropies [M], which carry no gradient.

    Each pass over logits [M, V] is made once; with tens of thousands of tokens the operators that torch would chain are felt.
    """

    @staticmethod
    def forward(ctx: Any, logits_MV: Tensor, targets_M: Tensor, entropy: bool) -> tuple[Tensor, Tensor]:
        logp_MV = torch.log_softmax(logits_MV, dim=-1)
        logp_M = logp_MV.gather(-1, targets_M.unsqueeze(-1)).squeeze(-1)
        probs_MV = logp_MV.exp() if entropy else logp_MV.exp_()
        entropy_M = -torch.linalg.vecdot(probs_MV, logp_MV) if entropy else torch.zeros_like(logp_M)
        ctx.save_for_backward(probs_MV, targets_M)
        ctx.mark_non_differentiable(entropy_M)
        return logp_M, entropy_M

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """∂/∂logit = [is the target] − p."""
        probs_MV, targets_M = ctx.saved_tensors
        gradient_M1 = gradients[0].unsqueeze(-1)
        of_logits_MV = probs_MV * -gradient_M1
        of_logits_MV.scatter_add_(-1, targets_M.unsqueeze(-1), gradient_M1)
        return of_logits_MV, None, None
