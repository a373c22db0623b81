"""Which rows a model is drawn with: `Columns`, where each layer keeps a key and a value of each token, else its own cache.

What the model says of itself (states, kinds of layers) comes first. Then each way is tried on a few
tokens beside the model's pass over single sequences without a cache; the first that gives the same logits is taken, and a
model that none fits is refused by name. The engine asks once for each model.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from xpo_ray.errors import ModelError
from xpo_ray.generation.direct import is_of_known_kind
from xpo_ray.generation.own_cache import OwnCache, tensors_in
from xpo_ray.generation.rows import Batch, Columns, Request, Rows
from xpo_ray.generation.stepper import Stepper
from xpo_ray.probing import LAST_PLACES, LEAST

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LENGTHS = (5, 2, 5)
"""Of the prompts that a way is tried on; the third is the first again."""
STEPS = 3
ROUGH = 0.25
"""Difference, as a share of the logits' own mean, beyond which a model's cache is not another rounding but wrong."""
BESIDE = 2.0
"""How many times as far as a row by itself rows beside others may be, where 16 bits round by more than `probing` allows."""
COLUMN_KINDS = {"full_attention", "sliding_attention", "chunked_attention", "attention"}


class Way(Protocol):
    """How rows begin, go on and are put together."""

    joins: bool

    def joining(self, waiting: Sequence[Request], rows: Any) -> Sequence[Request]: ...

    def begun(self, requests: Sequence[Request], most_drawn: int) -> tuple[Any, Tensor]: ...

    def together(self, parts: Sequence[Any]) -> Any: ...


@dataclass(frozen=True)
class Ways:
    """The way of a model, and the memory of a row."""

    way: Way
    row_bytes: Callable[[int], int]
    """Of a row's cache at so many positions."""

    @classmethod
    def of(cls, model: "PreTrainedModel") -> "Ways":
        """Raises ModelError where no way fits."""
        columns = Columns(Stepper.of(model))
        tried = None if is_of_known_kind(model) else _tried(columns, model) if _has_columns(model) else _Trial()
        if tried is None:
            return cls(columns, _key_value_bytes(model))
        if tried.fits:
            return cls(columns, tried.row_bytes)
        way, trial = _own(model)
        return cls(way, trial.row_bytes)


@dataclass(frozen=True)
class _Trial:
    """How far a way is from the model's own pass."""

    error: float = float("inf")
    """Share of the logits' mean: the middle one of all steps, of the row that is farthest; NaN where any is."""
    fits: bool = False
    of_row: float = 0.0
    of_token: float = 0.0
    reason: str = ""

    def row_bytes(self, positions: int) -> int:
        return max(int(self.of_row + self.of_token * positions), 1)


def _has_columns(model: "PreTrainedModel") -> bool:
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    return not getattr(model, "_is_stateful", False) and kinds <= COLUMN_KINDS


def _own(model: "PreTrainedModel") -> tuple[OwnCache, _Trial]:
    """The freest use of the model's own cache that is as near as a row by itself, which draws as `generate` does. Raises
    ModelError."""
    alone = OwnCache(model, pads=False, selects=False, alone=True)
    single = _tried(alone, model)
    if math.isnan(single.error):
        raise ModelError(f"{type(model).__name__} gives logits that are no numbers; its weights hold NaN or infinity")
    if not single.fits and single.error >= ROUGH:
        raise ModelError(
            f"{type(model).__name__} cannot be drawn from: "
            + (single.reason or f"its logits with its cache are {single.error:.0%} away from those without")
            + "; choose a model that transformers draws from with a cache"
        )
    for pads, selects in ((True, True), (False, True), (False, False)):
        way = OwnCache(model, pads=pads, selects=selects)
        trial = _tried(way, model)
        if trial.fits or trial.error <= BESIDE * single.error:
            return way, trial
    return alone, single


@torch.inference_mode()
def _tried(way: Way, model: "PreTrainedModel") -> _Trial:
    """Rows that begin, of which one leaves, and that go on, beside single sequences without a cache."""
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    prompts = _prompts(way, vocabulary)
    try:
        rows, logits_BV = way.begun([Request(i, p) for i, p in enumerate(prompts)], STEPS + 1)
        sequences, first = [list(p) for p in prompts], _row_bytes(rows)
        made = [logits_BV]
        for step in range(STEPS):
            next_B = torch.tensor([(7 * i + 3 * step + 2) % vocabulary for i in range(len(rows))], device=model.device)
            ended_B = torch.tensor([step == 1 and i == 2 for i in range(len(rows))], device=model.device)
            rows.advance(next_B, ended_B)
            for i, token in enumerate(next_B.tolist()):
                sequences[i].append(token)
            rows = way.together([rows])
            made.append(rows.next_logits())
        errors = [
            _error(model, s, [m[i] for m in made]) for i, s in enumerate(sequences[:2])
        ]  # the third one has ended
    except (
        AttributeError,
        IndexError,
        KeyError,
        ModelError,
        NotImplementedError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as e:
        return _Trial(reason=f"{type(e).__name__}: {e}" if not isinstance(e, ModelError) else str(e))
    error = math.nan if any(map(math.isnan, errors)) else max(errors)
    fits = error <= max(LEAST, LAST_PLACES * torch.finfo(model.dtype).eps)
    of_token = _bytes_of_column(rows) if isinstance(rows, Rows) else (_row_bytes(rows) - first) / STEPS
    return _Trial(error, fits, max(first - of_token * LENGTHS[0], 0.0), max(of_token, 0.0))


def _prompts(way: Way, vocabulary: int) -> list[list[int]]:
    made = [[(5 * i + 11 * k + 3) % vocabulary for k in range(n)] for i, n in enumerate(LENGTHS[:2])]
    if isinstance(way, OwnCache) and way.alone:
        return made[:1]
    if isinstance(way, OwnCache) and not way.pads:
        made[1] = [(t + 1) % vocabulary for t in made[0]]
    return [*made, made[0]]


def _error(model: "PreTrainedModel", sequence: Sequence[int], made: Sequence[Tensor]) -> float:
    """The middle one of the steps' differences: where rounding sends a token to another expert, one step is far off alone."""
    own = model(input_ids=torch.tensor([list(sequence)], device=model.device), use_cache=False).logits[0].float()
    pairs = zip(made, own[-len(made) :], strict=True)
    shares = [float((m - o).abs().mean() / o.abs().mean().clamp(min=1e-9)) for m, o in pairs]
    return math.nan if any(map(math.isnan, shares)) else median(shares)


def _row_bytes(rows: Batch) -> float:
    cache = rows.cache  # type: ignore[attr-defined]  # both kinds of rows have one
    layers = cache.layers if hasattr(cache, "layers") and not isinstance(cache, dict) else cache
    return sum(x.nbytes for x in tensors_in(layers)) / len(rows)


def _bytes_of_column(rows: Rows) -> float:
    """Of a row: all its columns are there from the beginning, so that drawing does not show it."""
    widths = (layer.keys.shape[-2] for layer in rows.cache.layers if layer.is_initialized)
    return _row_bytes(rows) / max(widths, default=1)


def _key_value_bytes(model: "PreTrainedModel") -> Callable[[int], int]:
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    each: int = 2 * config.num_hidden_layers * heads * size * model.dtype.itemsize
    return lambda positions: each * positions
