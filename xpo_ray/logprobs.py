"""Log-probs of responses: the one seam that everything which enters a loss goes through (DESIGN §4.5).

`plain` is the straightforward path and the check of any faster one: each (prompt, response) is a sequence of its own, prompts
padded on the left and responses on the right, so that all responses begin at the same position. No dropout: callers put the
model in eval mode.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class PromptGroup:
    """A prompt and the R responses behind it, as token ids."""

    prompt_ids: Sequence[int]
    responses: tuple[Sequence[int], ...]

    @property
    def tokens(self) -> int:
        """Length of the longest prompt + response."""
        return len(self.prompt_ids) + max((len(r) for r in self.responses), default=0)


@dataclass(frozen=True)
class ResponseLogProbs:
    """Per response, in the order of groups and of responses within them (S sequences in all)."""

    logp_S: Tensor
    """Summed log-prob in nats, through and including the first EOS, pads excluded."""
    tokens_S: Tensor
    """Tokens summed over."""
    entropy_S: Tensor
    """Mean entropy of the next-token distribution over the response's positions, in nats; carries no gradient."""


class LogProbFunction(Protocol):
    """Computes log-probs of responses under a model."""

    def __call__(self, model: nn.Module, groups: Sequence[PromptGroup]) -> ResponseLogProbs: ...


def precision(dtype: Literal["float32", "bfloat16"], device: torch.device) -> AbstractContextManager[object]:
    """The context in which trainer and reference compute: weights stay float32, bfloat16 only inside."""
    return torch.autocast(device.type, torch.bfloat16) if dtype == "bfloat16" else nullcontext()


def plain(model: nn.Module, groups: Sequence[PromptGroup]) -> ResponseLogProbs:
    """Each response as a sequence of its own, logits on the response positions only."""
    sequences = [(g.prompt_ids, r) for g in groups for r in g.responses]
    device = next(model.parameters()).device
    prompt_width = max(len(p) for p, _ in sequences)
    response_width = max(len(r) for _, r in sequences)
    ids = torch.zeros(len(sequences), prompt_width + response_width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, (prompt, response) in enumerate(sequences):
        start, stop = prompt_width - len(prompt), prompt_width + len(response)
        ids[i, start:stop] = torch.as_tensor([*prompt, *response], dtype=torch.long)
        mask[i, start:stop] = 1
    ids, mask = ids.to(device), mask.to(device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    output = model(
        input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=response_width + 1
    )
    logits_STV = output.logits[:, :-1].float()
    return _gather(logits_STV, ids[:, prompt_width:], mask[:, prompt_width:])


def _gather(logits_STV: Tensor, ids_ST: Tensor, mask_ST: Tensor) -> ResponseLogProbs:
    logp_STV = torch.log_softmax(logits_STV, dim=-1)
    logp_ST = logp_STV.gather(-1, ids_ST.unsqueeze(-1)).squeeze(-1) * mask_ST
    tokens_S = mask_ST.sum(-1)
    with torch.no_grad():
        entropy_ST = -(logp_STV.exp() * logp_STV).sum(-1) * mask_ST
    return ResponseLogProbs(logp_ST.sum(-1), tokens_S, entropy_ST.sum(-1) / tokens_S.clamp(min=1))


def micro_batches(groups: Sequence[PromptGroup], max_tokens: int) -> Iterator[list[int]]:
    """Indices of groups in batches of at most `max_tokens` padded tokens (one group at least), longest groups first."""
    order = sorted(range(len(groups)), key=lambda i: (-groups[i].tokens, i))
    batch: list[int] = []
    for i in order:
        if batch and _padded_tokens([groups[k] for k in (*batch, i)]) > max_tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _padded_tokens(groups: Sequence[PromptGroup]) -> int:
    """What `plain` computes on: prompts and responses are padded apart."""
    responses = [len(r) for g in groups for r in g.responses]
    return len(responses) * (max(len(g.prompt_ids) for g in groups) + max(responses, default=0))
