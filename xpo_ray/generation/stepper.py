"""A model and how its next tokens are computed: directly where it is of Llama's kind, else by its own forward pass."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import Cache

from xpo_ray.generation.direct import Step, direct_step
from xpo_ray.last_layer import leave_out_unread

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Stepper:
    """Made once for a model; its weights may change."""

    model: "PreTrainedModel"
    direct: Step | None
    takes_made_masks: bool
    """Whether transformers takes a mask with four axes for this model as it is."""
    window: int | None
    """Columns that some layers attend over at most; a made mask knows nothing of them."""
    reads_ends: bool
    """Whether the model reads a prompt for its last position alone."""

    @classmethod
    def of(cls, model: "PreTrainedModel") -> "Stepper":
        """The stepper of a model, whose weights are there already."""
        config = model.config.get_text_config()
        windows = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
        window: int | None = min((w for w in windows if isinstance(w, int)), default=None)
        eager = model.config._attn_implementation == "eager"  # it would add True and False to its scores
        takes_made_masks = bool(getattr(model, "_supports_attention_backend", False)) and not eager
        reads_ends = leave_out_unread(model)
        return cls(model, direct_step(model) if takes_made_masks else None, takes_made_masks, window, reads_ends)

    def read(self, ids_UP: Tensor, mask_UP: Tensor | None, position_UP: Tensor, cache: Cache) -> Tensor:
        """Put prompts into the cache; returns the logits [U, V] behind their last tokens, in float32."""
        last = {"read_R": torch.tensor([ids_UP.shape[1] - 1], device=ids_UP.device)} if self.reads_ends else {}
        out = self.model(
            input_ids=ids_UP,
            attention_mask=mask_UP,
            position_ids=position_UP,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            **last,
        )
        logits: Tensor = out.logits[:, -1].float()
        return logits

    def next_logits(self, last_B: Tensor, position_B: Tensor, cache: Cache, sees_BW: Tensor | None) -> Tensor:
        """Logits [B, V] behind the last tokens, in float32. `sees_BW`: which columns, the new one included, each row sees;
        None: all of them."""
        whole = self.window is None or cache.get_seq_length() < self.window
        made = None if sees_BW is None else sees_BW[:, None, None, :]
        if self.direct is not None and whole:
            return self.direct(last_B, position_B, cache, made)
        mask = made if self.takes_made_masks and whole else None if sees_BW is None else sees_BW.long()
        out = self.model(
            input_ids=last_B.unsqueeze(-1),
            attention_mask=mask,
            position_ids=position_B.unsqueeze(-1),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = out.logits[:, -1].float()
        return logits
