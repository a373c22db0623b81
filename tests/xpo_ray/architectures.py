"""Sizes of the small random models on which drawing and the shortcuts of a forward pass are tried."""

from typing import Any

SIZES: dict[str, Any] = {
    "vocab_size": 41,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}
"""Of Llama and its kind; some of them have other heads than hidden size / heads by default."""
GPT2_SIZES: dict[str, Any] = {
    "vocab_size": 41,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 128,
    "initializer_range": 0.2,
    "bos_token_id": None,
    "eos_token_id": None,
}
"""Absolute positions, and modules of other names."""
