"""Which models can be trained here, from their config alone, and which class of transformers holds one.

Rehearsal, validation and `checkpoints.load_model` call this before a weight is read. A model with vision or audio parts is
held whole: its text is trained, the other parts stay as they are (`freeze_other_parts`).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpo_ray.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

PARTS = ("vision_config", "audio_config", "video_config", "visual_config", "vq_config")
"""Entries of a config that stand for parts beside the text."""
DECODERS_ALL_THE_SAME = {"gpt_neox", "gpt_neox_japanese"}
"""Kinds whose config says is_decoder: false and does not mean it."""
LACKS = {
    "blt": "it reads bytes in patches of its own, not a tokenizer's tokens",
    "cpmant": "its attention reads a prompt both ways, so that it has no log-probs of its tokens in order",
    "git": "it answers images, and its text has no model of its own",
    "gemma4_assistant": "it drafts for another model and computes nothing without that one's states",
    "gemma4_unified_assistant": "it drafts for another model and computes nothing without that one's states",
    "moshi": "it reads audio beside its text",
    "musicgen": "it draws audio, not text",
    "musicgen_melody": "it draws audio, not text",
    "openai-gpt": "it keeps no cache to draw with",
    "recurrent_gemma": "it keeps its states inside its layers, where no batch but one can have them",
    "trocr": "it reads what an encoder of images gives it",
    "whisper": "it reads what an encoder of audio gives it",
    "xlm": "it keeps no cache to draw with",
    "xlnet": "it reads tokens in other orders than they stand in",
}
REMEDY = "choose a causal language model (a decoder that reads from left to right)"


def read_config(path: str | Path, revision: str | None = None) -> "PreTrainedConfig":
    """The config of a folder or hub repository. Raises ModelError where transformers does not know its kind; code that comes
    with a model is never run."""
    from transformers import AutoConfig

    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(str(path), revision=revision, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"model.path {path}: no causal language model could be loaded: {error}"
            + ("; code that comes with a model is never run" if "trust_remote_code" in str(error) else "")
        ) from error
    return config


def check_architecture(config: "PreTrainedConfig") -> None:
    """Raises ModelError, in one sentence, where a model of this config cannot draw from left to right or be trained on it."""
    kind = config.model_type
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(f"a model of kind {kind} cannot be trained: it is an encoder with a decoder; {REMEDY}")
    if getattr(config, "is_decoder", True) is False and kind not in DECODERS_ALL_THE_SAME:
        raise ModelError(f"a model of kind {kind} cannot be trained: its attention reads later tokens too; {REMEDY}")
    if kind in LACKS:
        raise ModelError(f"a model of kind {kind} cannot be trained: {LACKS[kind]}; {REMEDY}")
    if "diffusion" in kind:
        raise ModelError(f"a model of kind {kind} cannot be trained: it does not draw from left to right; {REMEDY}")
    if _class_name(config) is None:
        raise ModelError(
            f"a model of kind {kind} cannot be trained: it has no language model that draws text; {REMEDY}"
        )


def check_kind(path: str | Path, revision: str | None = None) -> None:
    """The same of a folder or hub repository, which the error names."""
    try:
        check_architecture(read_config(path, revision))
    except ModelError as error:
        raise ModelError(_at(path, error)) from error


def _at(path: str | Path, error: ModelError) -> str:
    told = str(error)
    return told if told.startswith("model.path") else f"model.path {path}: {told}"


def model_class(config: "PreTrainedConfig") -> Any:
    """The class that loads a model whole. Call `check_architecture` first."""
    import transformers

    name = _class_name(config)
    assert name is not None
    return getattr(transformers, name)


def has_other_parts(config: Any) -> bool:
    """Whether there is more than text in a model of this config."""
    return any(getattr(config, part, None) is not None for part in PARTS)


def leave_weights_alone(model: "PreTrainedModel") -> None:
    """Let no forward pass change them: RWKV would halve some where they lie, and they would be saved so."""
    if getattr(model.config, "rescale_every", 0):
        model.config.rescale_every = 0


def freeze_other_parts(model: "PreTrainedModel") -> None:
    """Leave vision and audio parts, and what joins them to the text, as they are: only the text is trained."""
    if not has_other_parts(model.config) or not _is_whole(type(model).__name__):
        return
    heads = (model.get_decoder(), model.get_input_embeddings(), model.get_output_embeddings())
    text = {id(p) for module in heads if module is not None for p in module.parameters()}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in text)


def _class_name(config: "PreTrainedConfig") -> str | None:
    """The class of a config's kind: with its other parts, unless the config names the text's class alone."""
    from transformers.models.auto import modeling_auto

    text: str | None = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type)
    if not has_other_parts(config):
        return text
    whole: str | None = modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES.get(config.model_type)
    named = (config.architectures or [whole])[0]
    return text if named == text or whole is None else whole


def _is_whole(name: str) -> bool:
    from transformers.models.auto import modeling_auto

    return name in modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES.values() and not name.endswith("ForCausalLM")
