"""A real config → small ones of the same kind: a few layers with each kind among them, fewer heads, experts and words.

Kept are the size of a head, how many heads share keys and values, the kinds of attention, scales, caps and tying. Fields are
told by their names, as transformers (5.19) uses them; what the names do not tell is tried: `cuts` gives several configs, and
whoever makes models of them takes the first that its class accepts and that is small enough.
"""

import copy
import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PretrainedConfig

VOCABULARY = 512
INNER = 64
"""Size of a feed-forward layer, of an expert, of a low rank."""
WINDOW = 16
"""Tokens that a local layer sees: fewer than the sequences of a rehearsal have."""
MOST_LAYERS = 12
TABLE = 512
BORDER = 24
"""Position behind which long rotary factors are taken."""

COUNT = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
WIDTHS = (
    "hidden_size",
    "n_embd",
    "d_model",
    "attention_hidden_size",
    "embedding_size",
    "word_embed_proj_dim",
    "lru_width",
)
WIDTHS_OF_STATES = ("mamba_d_ssm", "mamba_intermediate_size", "d_inner", "intermediate_size_ssm")
HEADS = re.compile(r"^(n_head|n_heads|num_heads|num_kv_heads|.*_n_heads|.*num_(attention|key_value|key|value)_heads)$")
INNERS = re.compile(r"(intermediate_size|ffn_dim|ffn_hidden_size|n_inner|inner_dim|d_ff|ffn_size)")
RANKS = ("q_lora_rank", "kv_lora_rank", "laurel_rank", "hidden_size_per_layer_input")
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_topk", "moe_k", "experts_per_token")
WINDOWS = ("sliding_window", "attention_chunk_size", "window_size", "local_window_size", "attention_window")
TABLES = ("n_positions", "max_position_embeddings", "n_ctx")
PERIOD = re.compile(r"(_period|_interval|_freq|_frequency|_step|_pattern|_every|_every_n_layers)$")
INDICES = re.compile(r"(layer|attn|mlp).*(indices|idxs|ids|layers)$")
BEFORE = ("first_k_dense_replace", "num_dense_layers")


def cuts(config: "PretrainedConfig") -> "Iterator[PretrainedConfig]":
    """Small configs, the most faithful first; the caller's is left as it is."""
    widths = _divisors(config)
    for divisor in [*widths[-2:-1], *widths[-1:], 1] if len(widths) > 1 else [1]:
        small = copy.deepcopy(config)
        _cut_layers(small)
        _cut_width(small, divisor)
        _cut_experts(small)
        _cut_reach(small)
        _cut_vocabulary(small)
        yield small


def _fields(config: "PretrainedConfig") -> dict[str, Any]:
    return {name: value for name, value in vars(config).items() if not name.startswith("_")}


def _int(config: "PretrainedConfig", *names: str) -> int | None:
    """The first of these fields that is a positive whole number."""
    values = (getattr(config, name, None) for name in names)
    return next((v for v in values if isinstance(v, int) and not isinstance(v, bool) and v > 0), None)


def _cut_layers(config: "PretrainedConfig") -> None:
    layers = _int(config, *COUNT)
    if layers is None:
        return
    fields, shared = _fields(config), _int(config, "num_kv_shared_layers") or 0
    kept = _layers_kept(fields, layers)
    if shared:  # the layers at the end read keys and values of layers before them, one of each kind
        kept = min(2 * kept, layers)
        config.num_kv_shared_layers = min(shared, kept // 2)
    for name, value in fields.items():
        if isinstance(value, (list, tuple, str)) and len(value) == layers and layers > 1 and name != "architectures":
            setattr(config, name, value[:kept])
        elif _are_indices(name, value, layers):
            setattr(config, name, [i for i in value if i < kept])
        elif name in BEFORE and isinstance(value, int):
            setattr(config, name, min(value, 1))
    for name in COUNT:
        if name in fields:
            setattr(config, name, kept)
    if "num_hidden_layers" not in fields:
        config.num_hidden_layers = kept


def _layers_kept(fields: dict[str, Any], layers: int) -> int:
    """So many first layers that each kind is among them: kinds by what stands for each layer, by periods and by indices."""
    per_layer = [v for v in fields.values() if isinstance(v, (list, tuple, str)) and len(v) == layers > 1]
    kinds = [repr([v[i] for v in per_layer]) for i in range(layers)]
    last_new = max(kinds.index(kind) for kind in set(kinds)) + 1 if len(set(kinds)) <= MOST_LAYERS else 4
    periods = [v for n, v in fields.items() if PERIOD.search(n) and isinstance(v, int) and not isinstance(v, bool)]
    indices = [min(v) + 1 for n, v in fields.items() if _are_indices(n, v, layers) and v]
    before = [2 for name in BEFORE if fields.get(name)]
    most: int = max([2, last_new, *periods, *indices, *before])
    return min(most, MOST_LAYERS, layers)


def _are_indices(name: str, value: Any, layers: int) -> bool:
    listed = isinstance(value, list) and len(value) != layers and bool(INDICES.search(name))
    return listed and all(isinstance(i, int) and 0 <= i < layers for i in value)


def _divisors(config: "PretrainedConfig") -> list[int]:
    """By which all numbers of heads and the width can be divided, at least two heads being left where there are more."""
    fields = _fields(config)
    numbers = [v for n, v in fields.items() if HEADS.match(n) and isinstance(v, int)]
    width = _int(config, *WIDTHS)
    if width is None:
        return [1]
    common = math.gcd(width, *numbers)
    return [
        d for d in range(1, common + 1) if common % d == 0 and width // d >= min(INNER, width) and (width // d) % 8 == 0
    ]


def _cut_width(config: "PretrainedConfig", divisor: int) -> None:
    for name, value in _fields(config).items():
        if INNERS.search(name) and name not in WIDTHS_OF_STATES:
            setattr(config, name, _smaller(value, INNER))
        elif name in RANKS:
            setattr(config, name, _smaller(value, INNER // 2))
        elif isinstance(value, int) and not isinstance(value, bool) and _follows_width(name):
            setattr(config, name, value // divisor)


def _follows_width(name: str) -> bool:
    return name in WIDTHS or name in WIDTHS_OF_STATES or HEADS.match(name) is not None


def _smaller(value: Any, most: int) -> Any:
    if isinstance(value, (list, tuple)):
        return [_smaller(each, most) for each in value]
    return min(value, most) if isinstance(value, int) and not isinstance(value, bool) else value


def _cut_experts(config: "PretrainedConfig") -> None:
    fields = _fields(config)
    for name in CHOSEN:
        if isinstance(fields.get(name), int):
            setattr(config, name, min(fields[name], 2))
    groups = fields.get("n_group")
    if isinstance(groups, int) and groups > 1:
        config.n_group, config.topk_group = 2, 1
    for name in EXPERTS:
        if isinstance(fields.get(name), int):
            setattr(config, name, min(fields[name], 8))


def _cut_reach(config: "PretrainedConfig") -> None:
    """Local layers become local for short sequences, too; tables of positions shrink."""
    for name in WINDOWS:
        if isinstance(value := getattr(config, name, None), int) and not isinstance(value, bool) and value > 0:
            setattr(config, name, min(value, WINDOW))
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None)
    if isinstance(rope, dict) and rope.get("rope_type") == "longrope":
        rope["original_max_position_embeddings"] = BORDER
        if getattr(config, "original_max_position_embeddings", None):
            config.original_max_position_embeddings = BORDER
    if not rope:
        for name in TABLES:
            if isinstance(value := _fields(config).get(name), int):
                setattr(config, name, min(value, TABLE))


def _cut_vocabulary(config: "PretrainedConfig") -> None:
    """A small vocabulary, in which each special token has an id of its own."""
    fields = _fields(config)
    ids = sorted({i for n, v in fields.items() if n.endswith(("token_id", "token_index")) for i in _ids(v)})
    place = {old: new for new, old in enumerate(ids, start=1)}
    for name, value in fields.items():
        if name.endswith(("token_id", "token_index")) and value is not None:
            setattr(config, name, [place[i] for i in value] if isinstance(value, list) else place.get(value, value))
    for name in ("vocab_size", "vocab_size_per_layer_input"):
        if isinstance(fields.get(name), int):
            setattr(config, name, min(fields[name], VOCABULARY))


def _ids(value: Any) -> list[int]:
    """Ids of tokens; negative ones stand for none."""
    listed = value if isinstance(value, list) else [value]
    return [i for i in listed if isinstance(i, int) and i >= 0]
