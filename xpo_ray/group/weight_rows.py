"""Tensors of a Hugging Face folder, read by rows straight from its safetensors: a rank reads what it keeps, and no more."""

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from xpo_ray.errors import ModelError
from xpo_ray.model_files import weight_files


class WeightRows:
    """The weight files of a folder, open. Raises ModelError where one is missing or no safetensors file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, Any] = {}
        for file in weight_files(folder):
            try:
                opened = safe_open(file, framework="pt")
            except (OSError, ValueError, RuntimeError) as error:
                raise ModelError(f"{file}: cannot be read: {error}; copy or write the model anew") from error
            self._files |= dict.fromkeys(opened.keys(), opened)  # type: ignore[no-untyped-call]

    def read(self, names: list[str], shape: tuple[int, ...], begin: int, end: int) -> Tensor:
        """Rows [begin, end) of the tensor that has these names, some of them perhaps not here; all of it where it has no rows.
        Raises ModelError."""
        held = [n for n in names if n in self._files]
        if not held:
            raise ModelError(
                f"{self._folder}: has no weights under the name {names[0]}; several trainer workers read weights by the names "
                "that the model's class has for them: load the model and write it with save_pretrained once, or set "
                "resources.trainer_workers to 1"
            )
        found, *others = held
        tensor = self._rows(found, shape, begin, end)
        for other in others:
            if not torch.equal(tensor, self._rows(other, shape, begin, end)):
                raise ModelError(
                    f"{self._folder}: config.json ties {found} and {other} to each other, but their weights differ; set "
                    "tie_word_embeddings to false in config.json where they are meant to be two"
                )
        return tensor

    def _rows(self, found: str, shape: tuple[int, ...], begin: int, end: int) -> Tensor:
        rows = self._files[found].get_slice(found)
        if tuple(rows.get_shape()) != shape:
            raise ModelError(
                f"{self._folder}: {found} is {list(rows.get_shape())}, the model's config makes it {list(shape)}; "
                "config.json and weights must be of one model"
            )
        tensor: Tensor = rows[begin:end] if shape else self._files[found].get_tensor(found)
        return tensor
