"""Draws of a model whose frequencies change with the longest position of a batch: rows stand beside those that compute alike.

A row that crosses LongRoPE's border is read again there, so that each token is drawn from what the model's own forward pass
gives behind all tokens before it. (`generate` of transformers 5.19 means to do so, but reads the last token alone from there
on, unless it has no cache.) With dynamic NTK each row beyond the border draws alone, by the cache, as in `generate`.
`TransformersEngine` calls this; log-probs keep to the same sides (`xpo_ray.logprobs.apart`).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor, nn

from xpo_ray.generation.engine import Drawn, Sampling
from xpo_ray.logprobs.sides import Sides, forget_lengths

DrawAlike = Callable[[Sequence[Sequence[int]], Tensor, Sampling], list[Drawn]]
"""(prompts, uniform numbers [row, token], sampling) → completions, drawn as one batch."""


def drawn_apart(
    model: nn.Module, prompts: Sequence[Sequence[int]], uniforms_RT: Tensor, sampling: Sampling, draw: DrawAlike
) -> list[Drawn]:
    """One completion for each prompt; a model without sides draws them all in one call."""
    sides = Sides.of(model)
    if sides is None:
        return draw(prompts, uniforms_RT, sampling)
    out: dict[int, Drawn] = {}
    for places in _batches(sides, [len(p) for p in prompts], sampling.max_new_tokens):
        forget_lengths(model)
        drawn = _across(sides, [prompts[i] for i in places], uniforms_RT[places], sampling, draw)
        out |= zip(places, drawn, strict=True)
    return [out[i] for i in range(len(prompts))]


def _batches(sides: Sides, lengths: Sequence[int], new: int) -> list[list[int]]:
    """Places of prompts that are drawn together: those that stay below the border, those beyond it, and those that cross it by
    their lengths; with frequencies for every length, each of the latter two by itself."""
    found: dict[tuple[int, int], list[int]] = {}
    for i, length in enumerate(lengths):
        before = sides.before_crossing(length)
        if before >= new:
            key = (0, 0)
        elif sides.by_length:
            key = (1, i)
        else:
            key = (1, length) if before else (2, 0)
        found.setdefault(key, []).append(i)
    return [found[key] for key in sorted(found)]


def _across(
    sides: Sides, prompts: Sequence[Sequence[int]], uniforms_RT: Tensor, sampling: Sampling, draw: DrawAlike
) -> list[Drawn]:
    """A batch on one side of the border or, where all prompts are of one length, across it."""
    before = sides.before_crossing(len(prompts[0]))
    if sides.by_length or not 0 < before < sampling.max_new_tokens:
        return draw(prompts, uniforms_RT, sampling)
    first = draw(prompts, uniforms_RT[:, :before], replace(sampling, max_new_tokens=before))
    going = [i for i, drawn in enumerate(first) if not drawn.ended]
    if not going:
        return first
    read = [[*prompts[i], *first[i].ids] for i in going]
    least = max(sampling.min_new_tokens - before, 0)
    rest = replace(sampling, max_new_tokens=sampling.max_new_tokens - before, min_new_tokens=least)
    later = dict(zip(going, draw(read, uniforms_RT[going][:, before:], rest), strict=True))
    return [Drawn(drawn.ids + later[i].ids, later[i].ended) if i in later else drawn for i, drawn in enumerate(first)]
