"""The size of an adapter, from the headers of the model that it is put into, and whether it fits. The memory plan and the
preparation of a run read it; loads no model.
"""

from dataclasses import dataclass
from pathlib import Path

from xpo_ray.errors import ModelError
from xpo_ray.model_files import Architecture, architecture, model_folder
from xpo_ray.plan.shapes import shapes
from xpo_ray.spec.data import LoraSpec, ModelSpec

EMBEDDINGS = ("wte", "wpe", "lm_head", "embed_out")
"""Last names of matrices that no linear layer but the head holds; so do all that have `embed` in them."""


@dataclass(frozen=True)
class Adapted:
    """An adapter: A is rank × in, B is out × rank, in each adapted layer."""

    parameters: int
    columns: int
    """What A gives, summed over layers: numbers per token that the backward pass needs."""

    @classmethod
    def of(cls, folder: Path, sizes: Architecture | None, lora: LoraSpec) -> "Adapted":
        """From the model's headers. Raises ModelError for names that no linear layer of it has."""
        layers = _linear_layers(folder, sizes)
        names = list(layers) if lora.target_modules == "all_linear" else lora.target_modules
        taken = {layer: shape for layer, shape in layers.items() if any(_called(layer, name) for name in names)}
        for name in names:
            if not any(_called(layer, name) for layer in taken):
                known = sorted({layer.rpartition(".")[2] for layer in layers})
                raise ModelError(
                    f"model.lora.target_modules: no linear layer of {folder} is called {name}; it has {', '.join(known)}"
                )
        return cls(sum(lora.rank * sum(shape) for shape in taken.values()), lora.rank * len(taken))


def check_adapter(model: ModelSpec) -> None:
    """Raises ModelError where the adapter of a model in a folder cannot be put into it."""
    folder = model_folder(model.path)
    if folder is not None and model.lora is not None:
        Adapted.of(folder, architecture(folder), model.lora)


def _linear_layers(folder: Path, sizes: Architecture | None) -> dict[str, tuple[int, ...]]:
    """Matrices that are neither embeddings nor the head, by the name of their layer."""
    named = {name.removesuffix(".weight"): shape for name, shape in (shapes(folder) or {}).items() if len(shape) == 2}
    return {layer: shape for layer, shape in named.items() if not _embeds(layer, shape, sizes)}


def _embeds(layer: str, shape: tuple[int, ...], sizes: Architecture | None) -> bool:
    last = layer.rpartition(".")[2]
    return last in EMBEDDINGS or "embed" in last or (sizes is not None and shape[0] == sizes.vocabulary)


def _called(layer: str, name: str) -> bool:
    return layer == name or layer.endswith(f".{name}")
