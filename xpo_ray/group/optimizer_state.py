"""The optimizer's state of a group, by torch.distributed.checkpoint in safetensors: each rank writes the rows that it holds,
and any number of ranks reads them again, one worker without a group among them. A group reads what one worker wrote, too.

<checkpoint>/trainer/shard-*.safetensors    `<parameter>/<item>` of the optimizer, and `rng.<rank>`, the random state of each
"""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from xpo_ray.errors import RunFailed
from xpo_ray.group.model_writer import divided
from xpo_ray.group.ranks import Ranks, whole_group

PART_BYTES = 5 * 10**8
"""Of one rank in one file, unless a single item is larger: while a file is written it is in memory twice more."""


def save_state(
    folder: Path,
    model: nn.Module,
    optimizer: Optimizer,
    position: dict[str, int],
    ranks: Ranks,
    part_bytes: int = PART_BYTES,
) -> Exception | None:
    """Write this rank's part, as all ranks do; returns what went wrong on any of them."""
    names = {id(p): n for n, p in model.named_parameters()}
    state: dict[str, Tensor] = {
        f"{names[id(p)]}/{item}": torch.as_tensor(value)
        for p, items in optimizer.state.items()
        for item, value in items.items()
    }
    files = _files(state, ranks.size, part_bytes)
    state[f"rng.{ranks.rank}"] = torch.get_rng_state()
    try:
        with whole_group():
            save(state, storage_writer=HuggingFaceStorageWriter(str(folder), files, save_distributed=True))
        if ranks.first:
            (folder / "position.json").write_text(json.dumps(position))
    except CheckpointException as error:  # of which each rank hears, whoever failed
        faults = "; ".join(f"rank {rank}: {fault[0]}" for rank, fault in error.failures.items())
        return RunFailed(f"{folder}: the optimizer's state could not be written: {faults}")
    except OSError as error:
        return error
    return None


def _files(state: dict[str, Tensor], ranks: int, part_bytes: int) -> dict[str, int]:
    """The number of the file that each item goes into, on every rank one of its own; random states go into the first."""
    parts = divided({name: t.numel() * t.element_size() // ranks for name, t in state.items()}, part_bytes)
    numbers = {name: k for k, held in enumerate(parts, 1) for name in held}
    return numbers | {f"rng.{rank}": 1 for rank in range(ranks)}


def load_state(folder: Path, model: nn.Module, optimizer: Optimizer, rank: int = 0) -> None:
    """Put moments and random state back, whoever wrote them; the optimizer must be new and over the model's parameters."""
    parameters: dict[str, Tensor] = dict(model.named_parameters())
    state = dict(_wanted(folder, parameters, rank))
    with warnings.catch_warnings(), whole_group():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # one worker alone: so it is meant
        load(state, storage_reader=HuggingFaceStorageReader(str(folder)))
    for key, value in state.items():
        name, _, item = key.rpartition("/")
        if name:
            optimizer.state[parameters[name]][item] = value.to(parameters[name].device)
        else:
            torch.set_rng_state(value)


def _wanted(folder: Path, parameters: dict[str, Tensor], rank: int) -> Iterator[tuple[str, Tensor]]:
    """A place for everything in the folder but the random states of others, in the rows that this process holds."""
    metadata = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    own_random = next((key for key in (f"rng.{rank}", "rng") if key in metadata), None)
    for key, entry in metadata.items():
        assert isinstance(entry, TensorStorageMetadata)
        parameter = parameters.get(key.rpartition("/")[0])
        if isinstance(parameter, DTensor) and entry.size == parameter.shape:
            yield key, torch.zeros_like(parameter.detach())
        elif parameter is not None or key == own_random:
            yield key, torch.zeros(entry.size, dtype=entry.properties.dtype)
