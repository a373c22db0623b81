"""The seam: what goes into a log-prob function, what comes out, and in which precision it computes.

Everything that enters a loss goes through a LogProbFunction (DESIGN §4.5), in the trainer and in the reference alike.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class PromptGroup:
    """A prompt and the R responses behind it, as token ids; the prompt has at least one."""

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
    entropy_S: Tensor | None
    """Mean entropy of the next-token distribution over the response's positions, in nats; carries no gradient. None where
    it was not asked for."""


class LogProbFunction(Protocol):
    """Computes log-probs of responses under a model. Callers put the model in eval mode: no dropout."""

    def __call__(
        self, model: nn.Module, groups: Sequence[PromptGroup], *, entropy: bool = False
    ) -> ResponseLogProbs: ...

    def tokens(self, groups: Sequence[PromptGroup]) -> int:
        """Token positions that a call on these groups computes: what a micro-batch is bounded by."""
        ...


def precision(dtype: Literal["float32", "bfloat16"], device: torch.device) -> AbstractContextManager[object]:
    """The context in which trainer and reference compute: weights stay float32, bfloat16 only inside."""
    return torch.autocast(device.type, torch.bfloat16) if dtype == "bfloat16" else nullcontext()


def micro_batches(groups: Sequence[PromptGroup], max_tokens: int, log_probs: LogProbFunction) -> Iterator[list[int]]:
    """Indices of groups in batches that compute at most `max_tokens` (one group at least), longest groups first."""
    order = sorted(range(len(groups)), key=lambda i: (-groups[i].tokens, i))
    batch: list[int] = []
    for i in order:
        if batch and log_probs.tokens([groups[k] for k in (*batch, i)]) > max_tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
