"""One step of a decoder of Llama's kind without what transformers calls around it: about a quarter of a step on a CPU.

`direct_step` looks at the names of a model's modules and then tries a few tokens beside the model's own forward pass; a model
that is built or computes otherwise gets None and is called as it is. Weights are read at each step, never copied.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Cache

from xpo_ray.generation.columns import column_cache
from xpo_ray.linear import together

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Step = Callable[[Tensor, Tensor, Cache, Tensor | None], Tensor]
"""(last tokens [B], their positions [B], cache, which columns each row sees [B, 1, 1, columns] or None for all) to logits
[B, V] in float32; the cache has a column more afterwards."""

WHOLE = {"model", "lm_head"}
INNER = {"embed_tokens", "layers", "norm", "rotary_emb"}
LAYER = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
NORMED = {"q_norm", "k_norm"}
"""What Qwen3 has beside: norms of each head's queries and keys."""
MLP = {"gate_proj", "up_proj", "down_proj", "act_fn"}


def direct_step(model: "PreTrainedModel") -> Step | None:
    """The step for a model, or None where its modules or its logits are others."""
    if not _is_built_alike(model):
        return None
    step = DirectStep(model)
    return step if _agrees(step, model) else None


class DirectStep:
    """Llama, Mistral, Qwen2, Qwen3 and whoever is built like them."""

    def __init__(self, model: "PreTrainedModel") -> None:
        inner: Any = model.model
        self._embedding = inner.embed_tokens
        self._rotary = inner.rotary_emb
        self._layers = [_Layer(layer) for layer in inner.layers]
        self._norm = _Norm(inner.norm)
        self._head = _caller(model.lm_head)

    def __call__(self, last_B: Tensor, position_B: Tensor, cache: Cache, sees: Tensor | None) -> Tensor:
        x_BC = F.embedding(last_B, self._embedding.weight)
        cos, sin = self._rotary(x_BC, position_B.unsqueeze(-1))  # [B, 1, head size] each
        half = sin.shape[-1] // 2
        turn = cos, torch.cat((-sin[..., :half], sin[..., half:]), dim=-1)
        for layer, columns in zip(self._layers, cache.layers, strict=True):
            x_BC = layer(x_BC, turn, columns, sees)
        logits: Tensor = self._head(self._norm(x_BC)).float()
        return logits


class _Layer:
    def __init__(self, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self._size: int = attention.head_dim
        self._scale: float = attention.scaling
        self._grouped: bool = attention.num_key_value_groups > 1
        self._states = together([attention.q_proj, attention.k_proj, attention.v_proj])
        self._gates = together([mlp.gate_proj, mlp.up_proj])
        self._output, self._down = _caller(attention.o_proj), _caller(mlp.down_proj)
        self._norms = [_Norm(getattr(attention, n)) for n in ("q_norm", "k_norm") if hasattr(attention, n)]
        self._activation = mlp.act_fn
        self._before, self._between = _Norm(layer.input_layernorm), _Norm(layer.post_attention_layernorm)

    def __call__(self, x_BC: Tensor, turn: tuple[Tensor, Tensor], columns: Any, sees: Tensor | None) -> Tensor:
        x_BC = x_BC + self._attended(self._before(x_BC), turn, columns, sees)
        gate, up = self._gates(self._between(x_BC))
        made: Tensor = x_BC + self._down(self._activation(gate) * up)
        return made

    def _attended(self, x_BC: Tensor, turn: tuple[Tensor, Tensor], columns: Any, sees: Tensor | None) -> Tensor:
        rows = len(x_BC)
        query, key, value = (x.view(rows, -1, self._size) for x in self._states(x_BC))
        if self._norms:
            query, key = (norm(x) for norm, x in zip(self._norms, (query, key), strict=True))
        keys, values = columns.update(_turned(key, turn).unsqueeze(2), value.unsqueeze(2))
        attended = F.scaled_dot_product_attention(
            _turned(query, turn).unsqueeze(2),
            keys,
            values,
            attn_mask=sees,
            scale=self._scale,
            enable_gqa=self._grouped,
        )
        return self._output(attended.reshape(rows, -1))


class _Norm:
    """RMSNorm in one call."""

    def __init__(self, norm: Any) -> None:
        self._norm = norm

    def __call__(self, x: Tensor) -> Tensor:
        weight = self._norm.weight
        return F.rms_norm(x, weight.shape, weight, self._norm.variance_epsilon)


def _turned(states_BHD: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary position embedding: the halves of each head, turned; the sine comes with its sign."""
    cos, sin = turn
    return torch.addcmul(states_BHD * cos, torch.roll(states_BHD, sin.shape[-1] // 2, -1), sin)


def _caller(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """What to call for a projection: a forward pass that was put on the module itself, without the hooks around it."""
    caller: Callable[[Tensor], Tensor] = vars(module).get("forward", module)
    return caller


def _is_built_alike(model: nn.Module) -> bool:
    """Whether the modules are those that are called here, by their names, and nobody listens to what goes through them."""
    inner: Any = getattr(model, "model", None)
    if _names(model) != WHOLE or _names(inner) != INNER:
        return False
    alike = all(
        _names(x) == LAYER and _names(x.self_attn) - NORMED == ATTENTION and _names(x.mlp) == MLP for x in inner.layers
    )
    return alike and not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def _names(module: Any) -> set[str]:
    return set() if module is None else {name for name, _ in module.named_children()}


@torch.inference_mode()
def _agrees(step: Step, model: "PreTrainedModel") -> bool:
    """Whether both give the same logits, to half of the digits of their type, behind a few tokens."""
    vocabulary = model.get_input_embeddings().weight.shape[0]
    ids = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]], device=model.device) % vocabulary
    cache = column_cache(model.config.get_text_config().num_hidden_layers, 2)
    model(input_ids=ids[:, :3], past_key_values=cache, use_cache=True)
    try:
        made = [step(ids[:, n], torch.full_like(ids[:, n], n), cache, None) for n in (3, 4)]
    except (AttributeError, RuntimeError, TypeError):
        return False
    own = model(input_ids=ids).logits[:, 3:].float()
    worst = (torch.stack(made, dim=1) - own).abs().max()
    return bool(worst <= torch.finfo(model.dtype).eps ** 0.5 * own.abs().max())
