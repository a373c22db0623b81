"""Small random models of many architectures, made from their configs: what `test_architectures` tries, one row each."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.xpo_ray.architectures import GPT2_SIZES, SIZES

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

VOCABULARY = 41


@dataclass(frozen=True)
class Row:
    """An architecture by transformers' name for it, and what its config says beside the common sizes."""

    kind: str
    changes: dict[str, Any] = field(default_factory=dict)
    name: str | None = None
    """Where a kind stands in the table twice."""
    sizes: dict[str, Any] = field(default_factory=lambda: SIZES)
    unused: tuple[str, ...] = ()
    """Weights that its pass over a text does not read."""

    @property
    def id(self) -> str:
        return self.name or self.kind

    def config(self) -> "PreTrainedConfig":
        from transformers import CONFIG_MAPPING

        return CONFIG_MAPPING[self.kind](**self.sizes | self.changes)

    def make(self) -> "PreTrainedModel":
        """The model in eval mode, its weights from a fixed seed, with the attention that `load_model` gives it."""
        import torch
        from transformers import AutoModelForCausalLM

        from xpo_ray.logprobs.attention_kinds import whole_attention

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            model: PreTrainedModel = AutoModelForCausalLM.from_config(self.config(), dtype=torch.float32)
        return whole_attention(model.eval())


MLA = {"kv_lora_rank": 8, "q_lora_rank": 12, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 6}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
MAMBA2 = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 8}
DELTA = {
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "layer_types": ["linear_attention", "full_attention"],
}
LONGROPE = {
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0, 1.1, 1.2, 1.3],
        "long_factor": [2.0, 3.0, 4.0, 5.0],
        "original_max_position_embeddings": 64,
        "partial_rotary_factor": 1.0,
        "factor": 2.0,
    }
}
FALCON = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
FALCON |= {"initializer_range": 0.2, "bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}

DECODERS = [
    Row("llama"),
    Row("mistral", {"sliding_window": 5}, name="mistral-sliding"),
    Row("qwen2"),
    Row("qwen3"),
    Row("qwen3_moe", EXPERTS),
    Row("qwen3_next", EXPERTS | DELTA | {"shared_expert_intermediate_size": 16}),
    Row("qwen3_5_text", DELTA),
    Row("gemma2", {"sliding_window": 5, "query_pre_attn_scalar": 8}),
    Row("gemma3_text", {"sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]}),
    Row(
        "gemma3n_text",
        {
            "sliding_window": 5,
            "num_hidden_layers": 4,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "num_kv_shared_layers": 2,
            "pad_token_id": None,  # its embedding would be zero, of whose root no gradient is a number
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": VOCABULARY,
            "intermediate_size": [48, 48, 64, 64],
            "activation_sparsity_pattern": [0.5, 0.0, 0.0, 0.0],
            "laurel_rank": 4,
            "altup_num_inputs": 2,
        },
    ),
    Row(
        "gemma4_text",
        {
            "sliding_window": 5,
            "num_hidden_layers": 4,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "num_kv_shared_layers": 2,
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": VOCABULARY,
            "global_head_dim": 16,
        },
    ),
    Row(
        "llama4_text",
        {
            "attention_chunk_size": 6,
            "layer_types": ["chunked_attention", "full_attention"],
            "no_rope_layers": [1, 0],
            "num_local_experts": 2,
            "moe_layers": [1],
            "intermediate_size_mlp": 48,
        },
    ),
    Row("lfm2", {"layer_types": ["conv", "full_attention"], "block_ff_dim": 48, "block_auto_adjust_ff_dim": False}),
    Row(
        "granitemoehybrid",
        MAMBA2
        | {
            "layer_types": ["mamba", "attention"],
            "num_local_experts": 2,
            "num_experts_per_tok": 1,
            "shared_intermediate_size": 16,
            "mamba_expand": 2,
        },
    ),
    Row("falcon_h1", MAMBA2 | {"mamba_d_ssm": 64}),
    Row(
        "jamba",
        {
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "num_experts": 2,
            "mamba_d_state": 8,
            "use_mamba_kernels": False,
            "mamba_dt_rank": 4,
        },
    ),
    Row("bamba", MAMBA2 | {"attn_layer_indices": [1], "mamba_expand": 2}),
    Row("mamba", {"state_size": 8, "time_step_rank": 4, "use_mambapy": False}),
    Row("mamba2", {"state_size": 8, "num_heads": 4, "head_dim": 16, "n_groups": 1, "chunk_size": 8}),
    Row("falcon_mamba", {"state_size": 8, "time_step_rank": 4}),
    Row(
        "zamba2",
        {
            "layers_block_type": ["mamba", "hybrid"],
            "mamba_d_state": 8,
            "n_mamba_heads": 4,
            "mamba_headdim": 16,
            "mamba_ngroups": 1,
            "chunk_size": 8,
            "num_mem_blocks": 1,
            "attention_head_dim": 16,
            "adapter_rank": 4,
        },
    ),
    Row(
        "nemotron_h",
        {
            "hybrid_override_pattern": "M*-",
            "layers_block_type": ["mamba", "attention", "moe"],
            "num_hidden_layers": 3,
            "mamba_num_heads": 4,
            "mamba_head_dim": 16,
            "ssm_state_size": 8,
            "n_groups": 1,
            "chunk_size": 8,
            "n_routed_experts": 2,
            "num_experts_per_tok": 1,
            "moe_intermediate_size": 16,
            "moe_shared_expert_intermediate_size": 16,
        },
    ),
    Row("rwkv", {"attention_hidden_size": 32, "context_length": 128, "num_hidden_layers": 3, "rescale_every": 2}),
    Row("phi3", LONGROPE | {"original_max_position_embeddings": 64}, name="phi3-longrope"),
    Row(
        "gpt_oss",
        {
            "sliding_window": 5,
            "layer_types": ["sliding_attention", "full_attention"],
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
    ),
    Row(
        "deepseek_v3",
        MLA
        | {
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "n_group": 2,
            "topk_group": 1,
            "moe_intermediate_size": 16,
            "n_shared_experts": 1,
            "first_k_dense_replace": 1,
            "num_key_value_heads": 4,
            "head_dim": 4,
        },
    ),
    Row(
        "kimi_linear",
        MLA
        | {
            "q_lora_rank": None,
            "layer_types": ["linear_attention", "full_attention"],
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "linear_head_dim": 8,
            "linear_num_heads": 4,
            "num_key_value_heads": 4,
            "mlp_layer_types": ["dense", "sparse"],
        },
    ),
    Row("opt", {"ffn_dim": 48, "word_embed_proj_dim": 32, "init_std": 0.2}),
    Row("bloom", {"n_layer": 2, "n_head": 4}),
    Row("falcon", {"alibi": True, "new_decoder_architecture": False}, name="falcon-alibi", sizes=FALCON),
    Row("falcon", {"alibi": False}, name="falcon-rotary", sizes=FALCON),
    Row(
        "mpt",
        {
            "d_model": 32,
            "n_layers": 2,
            "n_heads": 4,
            "max_seq_len": 128,
            "expansion_ratio": 2,
            "vocab_size": VOCABULARY,
        },
        sizes={},
    ),
    Row("gpt2", sizes=GPT2_SIZES),
    Row("gptj", {"rotary_dim": 4}, sizes=GPT2_SIZES),
    Row("gpt_neox", {"rotary_pct": 0.5}),
    Row("olmo2"),
    Row("olmo3", {"sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]}),
    Row("cohere2", {"sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]}),
    Row("smollm3"),
    Row("ernie4_5"),
    Row(
        "glm4_moe",
        {
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "n_shared_experts": 1,
            "first_k_dense_replace": 1,
        },
    ),
    Row(
        "minimax",
        {
            "layer_types": ["linear_attention", "full_attention"],
            "num_local_experts": 2,
            "num_experts_per_tok": 1,
            "block_size": 4,
        },
    ),
    Row("stablelm", {}),
    Row("granite"),
    Row("olmo_hybrid", DELTA),
    Row(
        "lfm2_moe",
        {
            "layer_types": ["conv", "full_attention"],
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "num_dense_layers": 1,
        },
    ),
    Row("apertus"),
    Row("exaone4", {"sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]}),
    Row("nanochat"),
    Row("seed_oss"),
    Row("mixtral", {"num_local_experts": 4}),
    Row("phi"),
    Row("starcoder2"),
    Row(
        "deepseek_v2",
        MLA
        | {
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "n_group": 2,
            "topk_group": 1,
            "moe_intermediate_size": 16,
            "n_shared_experts": 1,
            "first_k_dense_replace": 1,
            "num_key_value_heads": 4,
        },
    ),
]


@dataclass(frozen=True)
class Whole:
    """An architecture with vision beside its text, whose config is one of `DECODERS`."""

    kind: str
    text: str
    vision: dict[str, Any]
    changes: dict[str, Any] = field(default_factory=dict)
    text_changes: dict[str, Any] = field(default_factory=dict)

    def config(self) -> "PreTrainedConfig":
        from transformers import CONFIG_MAPPING

        text = next(row for row in DECODERS if row.id == self.text).config().to_dict() | self.text_changes
        return CONFIG_MAPPING[self.kind](text_config=text, vision_config=self.vision, **self.changes)

    def make(self) -> "PreTrainedModel":
        import torch

        from xpo_ray.architectures import model_class

        config = self.config()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            model: PreTrainedModel = model_class(config)._from_config(config, dtype=torch.float32)
        return model.eval()


SIGLIP = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
SIGLIP |= {"num_channels": 3, "image_size": 28, "patch_size": 14}
QWEN = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32, "patch_size": 14}
QWEN_TOKENS = {"image_token_id": 40, "video_token_id": 39, "vision_start_token_id": 38, "vision_end_token_id": 37}
MROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}}
TOKENS = {"image_token_index": 40, "boi_token_index": 39, "eoi_token_index": 38}

WHOLE = [
    Whole("gemma3", "gemma3_text", SIGLIP | {"model_type": "siglip_vision_model"}, TOKENS | {"mm_tokens_per_image": 4}),
    Whole(
        "llama4",
        "llama4_text",
        SIGLIP | {"vision_output_dim": 16, "projector_input_dim": 16, "projector_output_dim": 16},
        TOKENS,
    ),
    Whole("qwen3_5", "qwen3_5_text", QWEN | {"num_position_embeddings": 16}, QWEN_TOKENS),
    Whole("qwen2_5_vl", "qwen2", QWEN, QWEN_TOKENS, MROPE | {"model_type": "qwen2_5_vl_text"}),
    Whole(
        "qwen3_vl",
        "qwen3",
        QWEN | {"num_position_embeddings": 16, "deepstack_visual_indexes": [0]},
        QWEN_TOKENS,
        MROPE | {"model_type": "qwen3_vl_text"},
    ),
    Whole("mistral3", "mistral-sliding", SIGLIP | {"model_type": "pixtral", "head_dim": 8}, {"image_token_index": 40}),
    Whole(
        "gemma4",
        "gemma4_text",
        SIGLIP | {"head_dim": 8, "num_key_value_heads": 2, "position_embedding_size": 16},
        {"audio_config": None, "image_token_id": 40},
    ),
]
REFUSED = [
    ("bart", "encoder with a decoder"),
    ("t5", "encoder with a decoder"),
    ("bert", "reads later tokens"),
    ("roberta", "reads later tokens"),
    ("modernbert", "no language model that draws"),
    ("vit", "no language model that draws"),
    ("whisper", "encoder with a decoder"),
    ("xlnet", "other orders"),
    ("recurrent_gemma", "states inside its layers"),
    ("diffusion_gemma", "from left to right"),
]
