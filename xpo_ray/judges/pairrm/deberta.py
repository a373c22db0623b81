"""transformers' DeBERTa, imported here alone: it is decorated with torch.jit.script, which newer torch warns of at import."""

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is deprecated", category=DeprecationWarning)
    from transformers.models.deberta_v2.modeling_deberta_v2 import DebertaV2Model

__all__ = ["DebertaV2Model"]
