"""The path of models whose layers keep states: each (prompt, response) is a sequence of its own, padded at its end alone.

What reads from left to right never looks there, whatever a layer makes of a mask, so none is given. `choice` takes this path
for models that cannot be packed, one sequence at a time (`apart`) where a model reads its neighbours all the same.
"""

import inspect
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from xpo_ray.logprobs.apart import OneByOne
from xpo_ray.logprobs.head import token_log_probs
from xpo_ray.logprobs.seam import LogProbFunction, PromptGroup, ResponseLogProbs
from xpo_ray.logprobs.shared import whole

Sequenced = tuple[Sequence[int], Sequence[int]]


class Unmasked:
    """A LogProbFunction."""

    def __call__(self, model: nn.Module, groups: Sequence[PromptGroup], *, entropy: bool = False) -> ResponseLogProbs:
        sequences = [(g.prompt_ids, r) for g in groups for r in g.responses]
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

    def tokens(self, groups: Sequence[PromptGroup]) -> int:
        """Every sequence is as long as the longest."""
        lengths = [len(g.prompt_ids) + len(r) for g in groups for r in g.responses]
        return len(lengths) * max(lengths, default=0)


unmasked = Unmasked()


@torch.no_grad()
def separate(model: nn.Module, tolerance: float) -> LogProbFunction:
    """The path for a model: with neighbours where a sequence has the same log-probs beside them, to a share of the largest."""
    vocabulary = int(whole(model).get_input_embeddings().weight.shape[0])
    ids = [[(7 * k + 3) % vocabulary for k in range(n)] for n in (9, 4)]
    groups, alone = [PromptGroup(x[:2], (x[2:],)) for x in ids], OneByOne(unmasked)
    together_S, exact_S = (path(model, groups).logp_S.float() for path in (unmasked, alone))
    worst, largest = float((together_S - exact_S).abs().max()), float(exact_S.abs().max())
    return unmasked if worst <= tolerance * max(1.0, largest) else alone


def _logits(model: nn.Module, ids_SL: Tensor, first: int) -> Tensor:
    """Logits [S, K, V] from the position `first` on."""
    known = inspect.signature(whole(model).forward).parameters  # an adapter's wrapper names few, and passes on all
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
