"""Writes a random model of transformers as a GGUF file, as llama.cpp's converter would: names, order of rotary pairs, settings.

The tests of GGUF read it back; nothing of the product writes GGUF.
"""

from pathlib import Path
from typing import Any

import gguf
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

ARCHITECTURES = {"llama": gguf.MODEL_ARCH.LLAMA, "qwen2": gguf.MODEL_ARCH.QWEN2, "qwen3": gguf.MODEL_ARCH.QWEN3}
HEADS, KV_HEADS, HEAD_DIM = 4, 2, 16


def random_model(architecture: str, tokenizer: PreTrainedTokenizerFast, **settings: Any) -> PreTrainedModel:
    """Two layers with grouped heads; every weight, those of the norms and biases too, is random."""
    from transformers import AutoConfig

    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": HEADS * HEAD_DIM,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "eos_token_id": tokenizer.eos_token_id,
    }
    config = AutoConfig.for_model(architecture, **(sizes | settings))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def write_gguf(
    file: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    *,
    quantised: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    more_settings: dict[str, Any] | None = None,
    more_tensors: dict[str, torch.Tensor] | None = None,
) -> Path:
    """Matrices are quantised, vectors stay in float32. `more_settings` are written with the architecture's name in front."""
    config = model.config
    name = config.model_type
    writer = gguf.GGUFWriter(file, name)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(HEAD_DIM)
    for key, value in (more_settings or {}).items():
        writer.add_string(f"{name}.{key}", value) if isinstance(value, str) else writer.add_uint32(
            f"{name}.{key}", value
        )
    _add_tokenizer(writer, tokenizer)
    names = gguf.get_tensor_name_map(ARCHITECTURES[name], config.num_hidden_layers)
    for key, tensor in model.state_dict().items():
        stem, _, suffix = key.rpartition(".")
        if name == "llama" and stem.endswith(("q_proj", "k_proj")):
            tensor = _paired(tensor, config.num_attention_heads if stem.endswith("q_proj") else KV_HEADS)
        _add(writer, f"{names.get_name(stem)}.{suffix}", tensor, quantised)
    for key, tensor in (more_tensors or {}).items():
        _add(writer, key, tensor, quantised)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _paired(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """llama.cpp turns neighbours, transformers the two halves of a head."""
    rows = weight.shape[0]
    return weight.reshape(heads, 2, rows // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def _add(writer: gguf.GGUFWriter, name: str, tensor: torch.Tensor, quantised: gguf.GGMLQuantizationType) -> None:
    values = tensor.numpy()
    if tensor.dim() == 1 or quantised == gguf.GGMLQuantizationType.F32:
        writer.add_tensor(name, values)
    else:
        writer.add_tensor(name, gguf.quantize(values, quantised), raw_dtype=quantised)


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: PreTrainedTokenizerFast) -> None:
    import json

    spelled = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    special = set(tokenizer.get_added_vocab())
    kinds = [gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) if isinstance(pair, list) else pair for pair in spelled["merges"]])
    assert tokenizer.eos_token_id is not None
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_chat_template(str(tokenizer.chat_template))
