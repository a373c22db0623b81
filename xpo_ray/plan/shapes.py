"""The tensors of a model that has a config.json and no weights yet, by the layout of its architecture; with weights their
headers say it. The plan and the adapter's size read this, so that a run can be planned before a download. Reads no weight.

    E = V·H embeddings, and as much again for the head unless it is tied to them
    L × (q: n·d·H, k and v: m·d·H each, o: H·n·d, MLP: 3·H·I, two norms: 2·H), and the norm at the end: H

with vocabulary V, hidden H, layers L, heads n, keys' and values' heads m, head size d, MLP's inner size I.
"""

import json
from pathlib import Path
from typing import Any

from xpo_ray.model_files import Architecture, architecture, tensor_shapes

Shapes = dict[str, tuple[int, ...]]
LLAMA_LIKE = ("llama", "mistral", "qwen2", "qwen3", "phi3")
"""`model_type` of the architectures whose tensors are known here."""
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".index.json")


def shapes(folder: Path) -> Shapes | None:
    """By the weights' headers, else by config.json; None where a folder without weights has an architecture that is not known
    here. Raises ModelError."""
    if has_weights(folder):
        return tensor_shapes(folder)
    sizes = architecture(folder)
    config = _config(folder)
    if sizes is None or config.get("model_type") not in LLAMA_LIKE:
        return None
    return shapes_by_config(config, sizes)


def has_weights(folder: Path) -> bool:
    """Whether there is a file of weights, in whatever format: such a folder is read, or refused with what is wrong with it."""
    return not (folder / "config.json").exists() or any(file.name.endswith(WEIGHTS) for file in folder.iterdir())


def shapes_by_config(config: dict[str, Any], sizes: Architecture) -> Shapes:
    """Every tensor of one of LLAMA_LIKE."""
    ends: Shapes = {"model.embed_tokens.weight": (sizes.vocabulary, sizes.hidden), "model.norm.weight": (sizes.hidden,)}
    if not config.get("tie_word_embeddings", False):
        ends["lm_head.weight"] = (sizes.vocabulary, sizes.hidden)
    layer = _layer(config, sizes)
    return ends | {f"model.layers.{i}.{name}": shape for i in range(sizes.layers) for name, shape in layer.items()}


def _layer(config: dict[str, Any], sizes: Architecture) -> Shapes:
    kind, hidden = config["model_type"], sizes.hidden
    made: Shapes = {"input_layernorm.weight": (hidden,), "post_attention_layernorm.weight": (hidden,)}
    made |= _attention(sizes, fused=kind == "phi3", qkv_bias=kind == "qwen2", biases=_says(config, "attention_bias"))
    made |= _mlp(sizes, fused=kind == "phi3", biases=_says(config, "mlp_bias"))
    if kind == "qwen3":
        made |= {f"self_attn.{name}_norm.weight": (sizes.head_dim,) for name in "qk"}
    return made


def _attention(sizes: Architecture, *, fused: bool, qkv_bias: bool, biases: bool) -> Shapes:
    queries, keys = sizes.heads * sizes.head_dim, sizes.kv_heads * sizes.head_dim
    inputs = {"qkv_proj": queries + 2 * keys} if fused else {"q_proj": queries, "k_proj": keys, "v_proj": keys}
    made: Shapes = {f"self_attn.{name}.weight": (out, sizes.hidden) for name, out in inputs.items()}
    made["self_attn.o_proj.weight"] = (sizes.hidden, queries)
    if qkv_bias or biases:
        made |= {f"self_attn.{name}.bias": (out,) for name, out in inputs.items()}
    return made | ({"self_attn.o_proj.bias": (sizes.hidden,)} if biases else {})


def _mlp(sizes: Architecture, *, fused: bool, biases: bool) -> Shapes:
    inner = sizes.intermediate
    inputs = {"gate_up_proj": 2 * inner} if fused else {"gate_proj": inner, "up_proj": inner}
    made: Shapes = {f"mlp.{name}.weight": (out, sizes.hidden) for name, out in inputs.items()}
    made["mlp.down_proj.weight"] = (sizes.hidden, inner)
    if biases:
        made |= {f"mlp.{name}.bias": (out,) for name, out in inputs.items()} | {"mlp.down_proj.bias": (sizes.hidden,)}
    return made


def _says(config: dict[str, Any], name: str) -> bool:
    return config["model_type"] in ("llama", "qwen3") and bool(config.get(name))


def _config(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text: dict[str, Any] = config.get("text_config", config)
    return text
