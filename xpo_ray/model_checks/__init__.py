"""What the files of a model say against training it, read before a run begins: config.json and the headers of its weights.

`xpo-ray validate` and the preparation of a run call `check_model`; reads of a moment, without torch or transformers, and no
weight is read (`finite` alone does that, when a run is prepared). A hub repository is not looked at before it is downloaded.
"""

from pathlib import Path

from xpo_ray.model_checks.adapters import refuse_adapters
from xpo_ray.model_checks.heads import check_heads, refuse_lost_layers
from xpo_ray.model_checks.positions import check_limits
from xpo_ray.model_checks.quantisation import refuse_quantised
from xpo_ray.model_files import check_tokenizer_files, model_folder, read_config, stored_tensors
from xpo_ray.plan.shapes import has_weights
from xpo_ray.spec.run import RunSpec

Warnings = dict[str, str]
"""Code of a warning → what a user should know."""


def check_model(spec: RunSpec) -> Warnings:
    """Raises ModelError where the model of a spec cannot be trained, SpecError where it cannot be read so far; returns what is
    to be warned of. A folder without weights can be planned with; only its config is looked at."""
    folder = model_folder(spec.model.path)
    if folder is None:
        return {}
    refuse_adapters(folder, "model.path")
    warnings = check_limits(spec, folder)
    config = read_config(folder)
    refuse_quantised(folder, config, {})
    if has_weights(folder):
        warnings |= _check_weights(folder)
    check_tokenizer_files(spec.model.path)
    return warnings


def _check_weights(folder: Path) -> Warnings:
    config, tensors = read_config(folder), stored_tensors(folder)
    refuse_quantised(folder, config, tensors)
    refuse_lost_layers(folder, config, set(tensors))
    return check_heads(folder, config, set(tensors))
