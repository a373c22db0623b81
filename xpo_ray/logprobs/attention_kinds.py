"""Which of transformers' attention functions a model needs. Whoever makes a model calls `whole_attention` before it computes.

transformers takes SDPA wherever a class allows it, and SDPA drops what it does not know: the soft cap of Gemma 2's scores.
Models with attention sinks (gpt-oss and its kind) do not allow SDPA; transformers itself takes the eager function for them.
"""

from typing import TYPE_CHECKING, TypeVar

from xpo_ray.logprobs.attention import NAME

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Model = TypeVar("Model", bound="PreTrainedModel")
UNKNOWN_TO_SDPA = ("attn_logit_softcapping",)
"""Keys of a config that change what attention gives, and that SDPA never hears of."""


def whole_attention(model: Model) -> Model:
    """Give a model that SDPA would compute otherwise our attention, which takes SDPA's masks and knows caps, or the eager one
    where a class takes no other; any other model stays as it is. Returns the model."""
    config = model.config.get_text_config()
    asks = [key for key in UNKNOWN_TO_SDPA if getattr(config, key, None) is not None]
    if asks and config._attn_implementation == "sdpa":
        model.set_attn_implementation(NAME if model._supports_attention_backend else "eager")
    return model
