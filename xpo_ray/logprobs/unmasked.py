"""The path of models whose layers keep states: each (prompt, response) is a sequence of its own, padded at its end alone.

What reads from left to right never looks there, whatever a layer makes of a mask, so none is given. A model that reads its
neighbours all the same is read one sequence at a time. `choice` takes this path for models that cannot be packed.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xpo_ray.logprobs.head import token_log_probs
from xpo_ray.logprobs.seam import PromptGroup, ResponseLogProbs

Sequenced = tuple[Sequence[int], Sequence[int]]


@dataclass(frozen=True)
class Unmasked:
    """A LogProbFunction. `alone`: a sequence has no neighbour."""

    alone: bool = False

    def __call__(self, model: nn.Module, groups: Sequence[PromptGroup], *, entropy: bool = False) -> ResponseLogProbs:
        sequences = [(g.prompt_ids, r) for g in groups for r in g.responses]
        batches = [[s] for s in sequences] if self.alone else [sequences]
        parts = [_of_batch(model, batch, entropy) for batch in batches]
        entropies = [p.entropy_S for p in parts if p.entropy_S is not None]
        return ResponseLogProbs(
            logp_S=torch.cat([p.logp_S for p in parts]),
            tokens_S=torch.cat([p.tokens_S for p in parts]),
            entropy_S=torch.cat(entropies) if entropy else None,
        )

    def tokens(self, groups: Sequence[PromptGroup]) -> int:
        """Every sequence is as long as the longest, or as it is."""
        lengths = [len(g.prompt_ids) + len(r) for g in groups for r in g.responses]
        return sum(lengths) if self.alone else len(lengths) * max(lengths, default=0)


def separate(model: nn.Module) -> Unmasked:
    """The path for a model: with neighbours where a sequence has the same log-probs beside them."""
    vocabulary = int(model.get_input_embeddings().weight.shape[0])  # type: ignore[operator]
    ids = [[(7 * k + 3) % vocabulary for k in range(n)] for n in (9, 4)]
    groups = [PromptGroup(x[:2], (x[2:],)) for x in ids]
    with torch.no_grad():
        together, apart = (Unmasked(alone)(model, groups).logp_S for alone in (False, True))
    return Unmasked(alone=not torch.allclose(together, apart, rtol=1e-4, atol=1e-4))


def _of_batch(model: nn.Module, sequences: Sequence[Sequenced], entropy: bool) -> ResponseLogProbs:
    device = next(model.parameters()).device
    ids_SL = _padded([[*p, *r] for p, r in sequences]).to(device)
    first = min(len(p) for p, _ in sequences) - 1
    logits_SKV = _logits(model, ids_SL, first)
    reads_SK = _reads(sequences, first, logits_SKV.shape[1]).to(device)
    sequence_M = reads_SK.nonzero()[:, 0]
    targets_SK = ids_SL[:, first + 1 :]
    targets_M = targets_SK[reads_SK[:, : targets_SK.shape[1]]]
    logits_MV = logits_SKV[reads_SK]
    logp_M, entropy_M = token_log_probs(_as_it_is, logits_MV, targets_M, logits_MV.shape[-1], entropy=entropy)
    tokens_S = reads_SK.sum(-1)
    entropy_S = None if entropy_M is None else _summed(entropy_M, sequence_M, len(ids_SL)) / tokens_S.clamp(min=1)
    return ResponseLogProbs(_summed(logp_M, sequence_M, len(ids_SL)), tokens_S, entropy_S)


def _logits(model: nn.Module, ids_SL: Tensor, first: int) -> Tensor:
    """Logits [S, K, V] from the position `first` on."""
    known = inspect.signature(model.forward).parameters
    given: dict[str, object] = {"input_ids": ids_SL, "use_cache": False}
    if "position_ids" in known:
        given["position_ids"] = torch.arange(ids_SL.shape[1], device=ids_SL.device).expand_as(ids_SL)
    if "logits_to_keep" in known:
        given["logits_to_keep"] = ids_SL.shape[1] - first
    logits: Tensor = model(**given).logits
    return logits[:, -(ids_SL.shape[1] - first) :]


def _padded(sequences: Sequence[list[int]]) -> Tensor:
    width = max(map(len, sequences))
    return torch.tensor([s + [0] * (width - len(s)) for s in sequences], dtype=torch.long)


def _reads(sequences: Sequence[Sequenced], first: int, width: int) -> Tensor:
    """Which positions, from `first` on, predict a token of the response [S, K]."""
    place_K = torch.arange(first, first + width)
    begins = torch.tensor([[len(p) - 1] for p, _ in sequences])
    ends = torch.tensor([[len(p) - 1 + len(r)] for p, r in sequences])
    return (place_K >= begins) & (place_K < ends)


def _as_it_is(logits: Tensor) -> Tensor:
    return logits


def _summed(values_M: Tensor, sequence_M: Tensor, sequences: int) -> Tensor:
    return values_M.new_zeros(sequences).index_add(0, sequence_M, values_M)
