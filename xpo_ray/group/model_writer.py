"""A sharded model as a Hugging Face folder: put together matrix by matrix and written file by file, so that no rank ever holds
more of it at a time than one file's worth beside its own rows.

All ranks call this alike. The first one writes; what fails there is told only at the end, since the others wait for the next
matrix until then.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save_file
from torch import Tensor

from xpo_ray.checkpoints import mend_generation_config
from xpo_ray.group.sharding import full

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FILE_BYTES = 2 * 10**9
"""Bytes of weights in one file, unless a single matrix is larger."""
INDEX = "model.safetensors.index.json"


class ModelWriter:
    """Writes one model into one folder; `fault` is the first thing that went wrong."""

    def __init__(self, model: "PreTrainedModel", folder: Path, *, writes: bool, file_bytes: int = FILE_BYTES) -> None:
        self._model = model
        self._folder = folder
        self._writes = writes
        self._file_bytes = file_bytes
        self.fault: Exception | None = None

    def write(self) -> None:
        """Config, weights in files of bounded size, and where there are several, their index."""
        kept = dict(kept_tensors(self._model))
        files = divided({name: t.numel() * t.element_size() for name, t in kept.items()}, self._file_bytes)
        names = {_file_name(k, len(files)): held for k, held in enumerate(files, 1)}
        self._try(lambda: _write_config(self._model, self._folder))
        for file, held in names.items():
            self._write_file(file, {name: kept[name] for name in held})
        if len(files) > 1:
            total = sum(t.numel() * t.element_size() for t in kept.values())
            self._try(lambda: (self._folder / INDEX).write_text(_index(names, total)))

    def _write_file(self, file: str, tensors: dict[str, Tensor]) -> None:
        whole = {}
        for name, tensor in tensors.items():
            put_together = full(tensor.detach())
            if self._writes:
                whole[name] = put_together.cpu().contiguous()
        self._try(lambda: save_file(whole, self._folder / file, {"format": "pt"}))

    def _try(self, work: Callable[[], object]) -> None:
        if not self._writes or self.fault is not None:
            return
        try:
            work()
        except Exception as error:  # noqa: BLE001 - safetensors and the disk fail in ways of their own; told at the end
            self.fault = error


def kept_tensors(model: "PreTrainedModel") -> Iterator[tuple[str, Tensor]]:
    """What a folder of the model holds: parameters, tied ones once, and buffers that cannot be computed again."""
    yield from model.named_parameters()
    persistent = model.state_dict().keys()
    yield from ((name, buffer) for name, buffer in model.named_buffers() if name in persistent)


def _write_config(model: "PreTrainedModel", folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model.config.dtype = str(model.dtype).removeprefix("torch.")
    model.config.architectures = [type(model).__name__]
    mend_generation_config(model)
    model.config.save_pretrained(folder)
    if model.can_generate():
        model.generation_config.save_pretrained(folder)


def divided(sizes: dict[str, int], most: int) -> list[list[str]]:
    """Names in their order, in groups of at most so many bytes or of one."""
    files: list[list[str]] = []
    room = 0
    for name, size in sizes.items():
        if not files or size > room:
            files.append([])
            room = most
        files[-1].append(name)
        room -= size
    return files


def _file_name(number: int, of: int) -> str:
    return "model.safetensors" if of == 1 else f"model-{number:05d}-of-{of:05d}.safetensors"


def _index(files: dict[str, list[str]], total: int) -> str:
    where = {name: file for file, held in files.items() for name in held}
    return json.dumps({"metadata": {"total_size": total}, "weight_map": where}, indent=2)
