"""How prompts and the responses behind them lie in one row of tokens, each token once (DESIGN §3, prefix sharing).

    ids_N        prompt 0, prompt 1, …, prompt B-1, response 0, response 1, …, response U-1
    positions_N  from 0 in each prompt; in a response from the length of its prompt

A response that stands twice behind a prompt is there once. Nothing is padded here; only attention sees padded blocks:
B prompts of P positions, U responses of T positions. Log-probs and reward models build a Packing; `attention` reads it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from xpo_ray.logprobs.seam import PromptGroup

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

Ids = Sequence[int]


@dataclass(frozen=True)
class Packing:
    """B prompts, U distinct (prompt, response) sequences, N tokens. `unique_S` says which sequence each asked-for one is."""

    prompts: tuple[Ids, ...]
    responses: tuple[Ids, ...]
    prompt_of: tuple[int, ...]
    """Index of the prompt that each of the U responses stands behind."""
    unique_S: tuple[int, ...]
    device: torch.device

    @classmethod
    def of(cls, groups: Sequence[PromptGroup], device: torch.device) -> "Packing":
        """The packing of groups; responses are told apart within their group."""
        place: dict[tuple[int, tuple[int, ...]], int] = {}
        unique = [place.setdefault((b, tuple(r)), len(place)) for b, g in enumerate(groups) for r in g.responses]
        keys = list(place)
        prompts = tuple(g.prompt_ids for g in groups)
        return cls(prompts, tuple(r for _, r in keys), tuple(b for b, _ in keys), tuple(unique), device)

    @cached_property
    def prompt_lengths(self) -> list[int]:
        return [len(p) for p in self.prompts]

    @cached_property
    def response_lengths(self) -> list[int]:
        return [len(r) for r in self.responses]

    @property
    def prompt_tokens(self) -> int:
        return sum(self.prompt_lengths)

    @property
    def longest(self) -> int:
        """Positions of the longest prompt + response."""
        return max(self.prompt_lengths[b] + n for b, n in zip(self.prompt_of, self.response_lengths, strict=True))

    @cached_property
    def ids_N(self) -> Tensor:
        return self._long(list(chain.from_iterable((*self.prompts, *self.responses))))

    @cached_property
    def positions_N(self) -> Tensor:
        prompts = (range(n) for n in self.prompt_lengths)
        begins = (self.prompt_lengths[b] for b in self.prompt_of)
        responses = (range(p, p + n) for p, n in zip(begins, self.response_lengths, strict=True))
        return self._long(list(chain.from_iterable((*prompts, *responses))))

    @cached_property
    def predictors_M(self) -> Tensor:
        """For each of the M response tokens, the place in N of the token before it."""
        prompt_ends = list(accumulate(self.prompt_lengths))
        out: list[int] = []
        for start, n, b in zip(self._response_starts, self.response_lengths, self.prompt_of, strict=True):
            out.extend(([prompt_ends[b] - 1, *range(start, start + n - 1)])[:n])
        return self._long(out)

    @cached_property
    def targets_M(self) -> Tensor:
        return self.ids_N[self.prompt_tokens :]

    @cached_property
    def sequence_M(self) -> Tensor:
        """Which of the U sequences each response token belongs to."""
        return torch.repeat_interleave(self._long(range(len(self.responses))), self._long(self.response_lengths))

    @cached_property
    def ends_U(self) -> Tensor:
        """The place in N of the last token of each sequence."""
        prompt_ends = list(accumulate(self.prompt_lengths))
        ends = zip(self._response_starts, self.response_lengths, self.prompt_of, strict=True)
        return self._long([start + n - 1 if n else prompt_ends[b] - 1 for start, n, b in ends])

    @cached_property
    def blocks(self) -> "Blocks":
        """The padded blocks that attention works on."""
        return Blocks.of(self)

    @cached_property
    def segments(self) -> "Segments":
        """The sequences that attention for varying lengths works on."""
        return Segments.of(self)

    @cached_property
    def block_mask(self) -> "BlockMask":
        """FlexAttention's mask: a token sees its own prompt and its own response, up to itself."""
        from torch.nn.attention.flex_attention import create_block_mask

        lengths = self._long([*self.prompt_lengths, *self.response_lengths])
        prompts = self._long([*range(len(self.prompts)), *self.prompt_of])
        prompt_N = torch.repeat_interleave(prompts, lengths)
        begin = len(self.prompts)
        segment_N = torch.repeat_interleave(self._long([*[0] * begin, *range(1, 1 + len(self.responses))]), lengths)

        def sees(_b: Tensor, _h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            own = (segment_N[k] == 0) | (segment_N[k] == segment_N[q])
            return (prompt_N[q] == prompt_N[k]) & own & (k <= q)

        n = len(self.ids_N)
        mask: BlockMask = create_block_mask(sees, None, None, n, n, device=str(self.device))
        return mask

    @cached_property
    def _response_starts(self) -> list[int]:
        return [self.prompt_tokens + n for n in accumulate(self.response_lengths[:-1], initial=0)]

    def _long(self, values: Any) -> Tensor:
        return torch.tensor(list(values), dtype=torch.long).to(self.device)


@dataclass(frozen=True)
class Blocks:
    """Where packed tokens stand in padded blocks: prompts [B, P] and responses [U, T], both padded on the right.

    `prompt_index`, `response_index` and `inverse_N` are None where all prompts and all responses are of equal length: then
    the blocks are views of the row.
    """

    shape: tuple[int, int, int, int]
    """B, P, U, T."""
    prompt_index: Tensor | None
    response_index: Tensor | None
    inverse_N: Tensor | None
    """Place of each packed token in the blocks laid end to end."""
    prompt_of_U: Tensor
    responses_each: int | None
    """How many responses stand behind every prompt, where it is the same number and they are in order."""
    sees: Tensor
    """[1 or U, 1, T, P + T]: whether a response's token sees a key of its prompt or of its response."""

    @classmethod
    def of(cls, packing: Packing) -> "Blocks":
        lengths, responses = packing.prompt_lengths, packing.response_lengths
        b, p, u, t = len(lengths), max(lengths), len(responses), max(responses)
        dense = min(lengths) == p and min(responses) == t
        each = u // b if list(packing.prompt_of) == [i * b // u for i in range(u)] and u % b == 0 else None
        places = None if dense else _places(lengths, p, 0) + _places(responses, t, b * p)
        return cls(
            shape=(b, p, u, t),
            prompt_index=None if dense else _index(lengths, p, 0, packing.device),
            response_index=None if dense else _index(responses, t, sum(lengths), packing.device),
            inverse_N=None if places is None else torch.tensor(places).to(packing.device),
            prompt_of_U=torch.tensor(packing.prompt_of).to(packing.device),
            responses_each=each,
            sees=_sees(packing, p, t, one=dense),
        )


@dataclass(frozen=True)
class Segments:
    """Packed tokens as B + U sequences: each prompt on itself, then each response on its prompt and itself. Queries are the
    packed tokens in their order; keys stand in the order of `keys_K`."""

    keys_K: Tensor
    """Place in N of each key."""
    query_begins: Tensor
    """[B + U + 1], int32: where each sequence's queries begin, and behind them their number."""
    key_begins: Tensor
    most_queries: int
    most_keys: int

    @classmethod
    def of(cls, packing: Packing) -> "Segments":
        lengths = [*packing.prompt_lengths, *packing.response_lengths]
        begins = list(accumulate(lengths[:-1], initial=0))
        own = [range(b, b + n) for b, n in zip(begins, lengths, strict=True)]
        keys = [
            (*own[b], *response) for b, response in zip(packing.prompt_of, own[len(packing.prompts) :], strict=True)
        ]
        sequences = [*own[: len(packing.prompts)], *keys]
        widths = [len(s) for s in sequences]
        return cls(
            keys_K=torch.tensor(list(chain.from_iterable(sequences))).to(packing.device),
            query_begins=_begins(lengths, packing.device),
            key_begins=_begins(widths, packing.device),
            most_queries=max(lengths),
            most_keys=max(widths),
        )


def _begins(lengths: Sequence[int], device: torch.device) -> Tensor:
    return torch.tensor(list(accumulate(lengths, initial=0)), dtype=torch.int32).to(device)


def _places(lengths: Sequence[int], width: int, offset: int) -> list[int]:
    """Place in a padded block, which begins at `offset`, of each token."""
    return [offset + i * width + j for i, n in enumerate(lengths) for j in range(n)]


def _index(lengths: Sequence[int], width: int, begin: int, device: torch.device) -> Tensor:
    """Packed place of each position of a padded block; pads read the last token of their row, which nobody looks at."""
    starts = accumulate(lengths[:-1], initial=begin)
    places = [s + min(j, n - 1) for s, n in zip(starts, lengths, strict=True) for j in range(width)]
    return torch.tensor(places).to(device)


def _sees(packing: Packing, p: int, t: int, *, one: bool) -> Tensor:
    prompt_of = packing.prompt_of[:1] if one else packing.prompt_of
    own = torch.tensor([packing.prompt_lengths[b] for b in prompt_of])
    prompt = (torch.arange(p) < own[:, None])[:, None, None, :].expand(-1, 1, t, -1)
    causal = torch.ones(t, t, dtype=torch.bool).tril()[None, None].expand(len(own), -1, -1, -1)
    return torch.cat([prompt, causal], dim=-1).to(packing.device)
