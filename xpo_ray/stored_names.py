"""Weights under the names and in the shapes that a model's folder has for them, where its class holds them otherwise.

transformers fuses experts when it loads a model and takes them apart when it saves one. What travels by object ref are the
weights as the class holds them; an engine that reads folders is given them as they would lie in one: `served_policy` asks.
"""

from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers.core_model_loading import revert_weight_conversion

from xpo_ray.architectures import model_class, read_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def as_stored(weights: dict[str, Tensor], path: str, revision: str | None = None) -> dict[str, Tensor]:
    """The same weights as `save_pretrained` would write them."""
    made: dict[str, Tensor] = revert_weight_conversion(_shape_of(path, revision), weights)
    return made


@lru_cache(maxsize=1)
def _shape_of(path: str, revision: str | None) -> "PreTrainedModel":
    """The model without its weights."""
    config = read_config(path, revision)
    with torch.device("meta"):
        model: PreTrainedModel = model_class(config)._from_config(config, dtype=torch.float32)
    return model
