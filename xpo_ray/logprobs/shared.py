"""Log-probs with shared prefixes: each prompt once, each distinct response once, the head on response positions only.

Equal to `plain` up to float rounding, and a multiple faster where prompts are long or responses many. `choice` says which
models take it.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from xpo_ray.last_layer import leaves_out_unread
from xpo_ray.logprobs.attention import NAME
from xpo_ray.logprobs.head import token_log_probs
from xpo_ray.logprobs.packing import Packing
from xpo_ray.logprobs.plain import plain
from xpo_ray.logprobs.seam import PromptGroup, ResponseLogProbs


class Shared:
    """A LogProbFunction. Sequences longer than the model's sliding window take the plain path: it cuts by packed index."""

    def __call__(self, model: nn.Module, groups: Sequence[PromptGroup], *, entropy: bool = False) -> ResponseLogProbs:
        window = sliding_window(model)
        if not all(r for g in groups for r in g.responses) or (window and max(g.tokens for g in groups) > window):
            return plain(model, groups, entropy=entropy)
        device = next(model.parameters()).device
        packing = Packing.of(groups, device)
        hidden_MH = hidden_states(model, packing, packing.predictors_M)
        head, vocabulary = output_head(model)
        logp_M, entropy_M = token_log_probs(head, hidden_MH, packing.targets_M, vocabulary, entropy=entropy)
        unique_S = torch.tensor(packing.unique_S, device=device)
        tokens_U = torch.tensor(packing.response_lengths, device=device)
        entropy_U = None if entropy_M is None else _summed(entropy_M, packing) / tokens_U
        return ResponseLogProbs(
            logp_S=_summed(logp_M, packing).index_select(0, unique_S),
            tokens_S=tokens_U.index_select(0, unique_S),
            entropy_S=None if entropy_U is None else entropy_U.index_select(0, unique_S),
        )

    def tokens(self, groups: Sequence[PromptGroup]) -> int:
        """Tokens of all prompts and of their distinct responses."""
        return sum(len(g.prompt_ids) + sum(map(len, {tuple(r) for r in g.responses})) for g in groups)


def hidden_states(model: nn.Module, packing: Packing, read_R: Tensor) -> Tensor:
    """Last hidden states [R, hidden] at some places of a packing; the model's attention is `attention.NAME`."""
    unused = torch.empty(1, 1, 1, 1, device=packing.device)
    alone = leaves_out_unread(whole(model))
    output = backbone(model)(
        input_ids=packing.ids_N.unsqueeze(0),
        position_ids=packing.positions_N.unsqueeze(0),
        attention_mask=unused,  # four axes: transformers takes it as made, and `attention` does not look at it
        use_cache=False,
        packing=packing,
        **({"read_R": read_R} if alone else {}),
    )
    hidden: Tensor = output.last_hidden_state[0]
    return hidden if alone else hidden.index_select(0, read_R)


def whole(model: nn.Module) -> Any:
    """The transformers model inside PEFT's wrapper, or the model itself; adapters stay as they are, on or off."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]


def backbone(model: nn.Module) -> Any:
    """The model without its head."""
    return whole(model).base_model


def output_head(model: nn.Module) -> tuple[Any, int]:
    """The head, with the bound on its logits that some configs name, and how many logits it gives."""
    inner = whole(model)
    head = inner.get_output_embeddings()
    vocabulary = int(head.weight.shape[0])
    cap = getattr(inner.config.get_text_config(), "final_logit_softcapping", None)
    return (head if cap is None else lambda hidden: cap * torch.tanh(head(hidden) / cap)), vocabulary


def sliding_window(model: nn.Module) -> int | None:
    """The window of layers that attend only so far back, where the model has any."""
    config = whole(model).config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None)
    if window is None or (kinds is not None and "sliding_attention" not in kinds):
        return None
    return int(window)


def use_packed_attention(model: nn.Module) -> None:
    """Give the model the attention function that reads packings; without one it works as SDPA."""
    whole(model).set_attn_implementation(NAME)


def _summed(values_M: Tensor, packing: Packing) -> Tensor:
    """Sum over the tokens of each of the U sequences."""
    zeros = values_M.new_zeros(len(packing.responses))
    return zeros.index_add(0, packing.sequence_M, values_M)


shared = Shared()
