"""Small random models of the architectures that log-probs are tried on."""

from typing import Any

import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

SIZES = {
    "vocab_size": 53,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "bos_token_id": None,
    "eos_token_id": 1,
}
GPT2_SIZES = {
    "vocab_size": 53,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 128,
    "initializer_range": 0.3,
    "bos_token_id": None,
    "eos_token_id": 1,
}

BORDER = 12
LONG = {"rope_type": "longrope", "long_factor": [4.0] * 4, "short_factor": [1.0] * 4, "rope_theta": 10_000.0}
NTK = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10_000.0}


def make(kind: str, window: int = 4) -> PreTrainedModel:
    """The same weights each time; gpt2 has learned absolute positions, mistral a sliding window."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        match kind:
            case "llama":
                return LlamaForCausalLM(LlamaConfig(**SIZES)).eval()
            case "qwen2":
                return Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=True)).eval()
            case "mistral":
                return MistralForCausalLM(MistralConfig(**SIZES, sliding_window=window)).eval()
            case "gpt2":
                return GPT2LMHeadModel(GPT2Config(**GPT2_SIZES)).eval()
            case "gemma2":
                soft = {"attn_logit_softcapping": 5.0, "final_logit_softcapping": 5.0, "head_dim": 8}
                return Gemma2ForCausalLM(Gemma2Config(**SIZES, **soft, sliding_window=64)).eval()
    raise ValueError(kind)


def bordered(kind: str) -> PreTrainedModel:
    """Models that compute otherwise beyond BORDER tokens."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = SIZES | {"pad_token_id": 0}
    match kind:
        case "longrope":
            rope = LONG | {"original_max_position_embeddings": BORDER, "factor": 4.0}
            return Phi3ForCausalLM(
                Phi3Config(**sizes, rope_parameters=rope, original_max_position_embeddings=BORDER)
            ).eval()
        case "dynamic":
            sizes["max_position_embeddings"] = BORDER
            return LlamaForCausalLM(LlamaConfig(**sizes, rope_parameters=NTK)).eval()
        case "sliding":
            return MistralForCausalLM(MistralConfig(**sizes, sliding_window=BORDER)).eval()
    raise ValueError(kind)
