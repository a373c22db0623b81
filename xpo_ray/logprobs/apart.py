"""Log-prob functions that keep sequences apart which would change each other's log-probs. `choice` puts them around a path."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xpo_ray.logprobs.seam import LogProbFunction, PromptGroup, ResponseLogProbs
from xpo_ray.logprobs.sides import Sides, forget_lengths


@dataclass(frozen=True)
class Apart:
    """Another path, called once for each side of a border: for LongRoPE and dynamic NTK."""

    path: LogProbFunction
    sides: Sides

    def __call__(self, model: nn.Module, groups: Sequence[PromptGroup], *, entropy: bool = False) -> ResponseLogProbs:
        places = [(g, r) for g, group in enumerate(groups) for r in range(len(group.responses))]
        lengths = [len(groups[g].prompt_ids) + len(groups[g].responses[r]) for g, r in places]
        parts = self.sides.apart(lengths)
        made = []
        for part in parts:
            forget_lengths(model)
            made.append(self.path(model, _chosen(groups, [places[i] for i in part]), entropy=entropy))
        return _in_order(made, parts)

    def tokens(self, groups: Sequence[PromptGroup]) -> int:
        """As if nothing had to be computed twice: a bound for micro-batches, not for the work."""
        return self.path.tokens(groups)


@dataclass(frozen=True)
class OneByOne:
    """Another path, called for each response alone: right for any model, and slow."""

    path: LogProbFunction

    def __call__(self, model: nn.Module, groups: Sequence[PromptGroup], *, entropy: bool = False) -> ResponseLogProbs:
        made = []
        for one in _single(groups):
            forget_lengths(model)
            made.append(self.path(model, [one], entropy=entropy))
        return _in_order(made, [[i] for i in range(len(made))])

    def tokens(self, groups: Sequence[PromptGroup]) -> int:
        """Nothing is padded to a neighbour's length."""
        return sum(self.path.tokens([one]) for one in _single(groups))


def _single(groups: Sequence[PromptGroup]) -> list[PromptGroup]:
    return [PromptGroup(group.prompt_ids, (response,)) for group in groups for response in group.responses]


def _chosen(groups: Sequence[PromptGroup], places: Sequence[tuple[int, int]]) -> list[PromptGroup]:
    """The groups with those responses alone; those without any are left out."""
    of_group: dict[int, list[int]] = {}
    for g, r in places:
        of_group.setdefault(g, []).append(r)
    return [PromptGroup(groups[g].prompt_ids, tuple(groups[g].responses[r] for r in rs)) for g, rs in of_group.items()]


def _in_order(made: Sequence[ResponseLogProbs], parts: Sequence[Sequence[int]]) -> ResponseLogProbs:
    if len(made) == 1:
        return made[0]
    order = torch.tensor([i for part in parts for i in part])
    back = order.argsort()

    def joined(pieces: list[Tensor]) -> Tensor:
        return torch.cat(pieces).index_select(0, back.to(pieces[0].device))

    entropies = [m.entropy_S for m in made if m.entropy_S is not None]
    return ResponseLogProbs(
        logp_S=joined([m.logp_S for m in made]),
        tokens_S=joined([m.tokens_S for m in made]),
        entropy_S=joined(entropies) if entropies else None,
    )
