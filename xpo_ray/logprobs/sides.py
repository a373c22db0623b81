"""Positions at which a model's config changes what it computes, and which sequences may stand beside each other there.

LongRoPE and dynamic NTK choose the frequencies of all rows of a batch by its longest position, so that a sequence's log-prob
and a row's draw would depend on their neighbours. Who puts sequences into a batch (log-probs, engines, reward models) asks
`Sides` which of them compute alike. No computing here, and nothing that needs torch's models.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

BORDERS = ("sliding_window", "attention_chunk_size", "original_max_position_embeddings")
"""Keys of a config that name a number of tokens beyond which layers compute otherwise."""


@dataclass(frozen=True)
class Sides:
    """Where frequencies change with the longest position, and how."""

    border: int
    """The longest sequence that has the frequencies of short ones."""
    by_length: bool
    """Whether each length beyond the border has frequencies of its own (dynamic NTK), or all have the same (LongRoPE)."""

    @classmethod
    def of(cls, model: nn.Module) -> "Sides | None":
        """None for a model in which every position is turned alike, whatever stands beside it."""
        config = getattr(model, "config").get_text_config()  # noqa: B009 - a module's attribute has no type
        for rope in _ropes(config):
            kind = str(rope.get("rope_type", rope.get("type", "")))
            if kind == "longrope":
                own = rope.get("original_max_position_embeddings") or config.original_max_position_embeddings
                return cls(int(own), by_length=False)
            if "dynamic" in kind:
                return cls(int(config.max_position_embeddings), by_length=True)
        return None

    def key(self, tokens: int) -> int:
        """Equal for lengths of sequences that compute alike beside each other."""
        if tokens <= self.border:
            return 0
        return tokens if self.by_length else 1

    def apart(self, lengths: Sequence[int]) -> list[list[int]]:
        """Places of sequences that may stand in one batch, short ones first."""
        keys = [self.key(n) for n in lengths]
        return [[i for i, key in enumerate(keys) if key == side] for side in sorted(set(keys))]

    def before_crossing(self, prompt: int) -> int:
        """Tokens that are drawn behind a prompt with the frequencies that its first one has."""
        return max(self.border - prompt + 1, 0)


def alike(sides: Sides | None, lengths: Sequence[int]) -> list[list[int]]:
    """Places of sequences that may stand in one batch: all of them where a model has no sides."""
    return [list(range(len(lengths)))] if sides is None else sides.apart(lengths)


@torch.no_grad()
def forget_lengths(model: nn.Module) -> None:
    """Let dynamic frequencies be those of the next batch alone: they remember the longest one that they have seen."""
    for module in model.modules():
        if hasattr(module, "original_max_seq_len") and hasattr(module, "max_seq_len_cached"):
            for name in _remembering(module):
                _begin_anew(module, name)


def _remembering(module: nn.Module) -> Iterator[str | None]:
    """Kinds of layers whose frequencies are dynamic, or None where all layers share them."""
    kinds = getattr(module, "rope_type", "")
    if isinstance(kinds, Mapping):
        yield from (name for name, kind in kinds.items() if "dynamic" in kind)
    elif "dynamic" in str(kinds):
        yield None


def _begin_anew(module: nn.Module, layers: str | None) -> None:
    """As transformers does it itself at a sequence that is shorter than the original length."""
    prefix = "" if layers is None else f"{layers}_"
    original: Tensor = getattr(module, f"{prefix}original_inv_freq")
    inverse: Tensor = getattr(module, f"{prefix}inv_freq")
    module.register_buffer(f"{prefix}inv_freq", original.to(inverse.device), persistent=False)
    setattr(module, f"{prefix}max_seq_len_cached", getattr(module, "original_max_seq_len"))  # noqa: B009


def borders(config: Any) -> list[int]:
    """Every number of tokens at which a text config names a change."""
    named = {getattr(config, key, None) for key in BORDERS} | {_dynamic(config, rope) for rope in _ropes(config)}
    return sorted({int(n) for n in named if n})


def _dynamic(config: Any, rope: Mapping[str, Any]) -> int | None:
    if "dynamic" in str(rope.get("rope_type", "")):
        return int(config.max_position_embeddings)
    found = rope.get("original_max_position_embeddings")
    return None if found is None else int(found)


def _ropes(config: Any) -> list[Mapping[str, Any]]:
    """Rotary settings of a config: one for all layers, or one for each kind of layer."""
    rope = getattr(config, "rope_parameters", None) or {}
    nested = [r for r in rope.values() if isinstance(r, Mapping)]
    return nested or [rope]
