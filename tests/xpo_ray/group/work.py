"""What the tests let the ranks of a group do. Trainers stay in their processes, under names."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from xpo_ray.group.model_writer import ModelWriter
from xpo_ray.group.optimizer_state import save_state
from xpo_ray.group.publishing import publish
from xpo_ray.group.ranks import Ranks
from xpo_ray.group.trainer import GroupTrainer
from xpo_ray.logprobs import head
from xpo_ray.offload import Offload
from xpo_ray.spec.data import ModelSpec
from xpo_ray.spec.training import TrainingSpec
from xpo_ray.steps import StepOrder
from xpo_ray.storage import Checkpoint, LocalStorage

HELD: dict[str, GroupTrainer] = {}
Step = tuple[StepOrder, list[pa.Table]]


def make(
    ranks: Ranks, name: str, spec: TrainingSpec, origin: ModelSpec, path: str | None = None, state: Path | None = None
) -> str | None:
    """A trainer under a name; returns why it takes the plain path."""
    HELD[name] = GroupTrainer(spec, ranks, origin, path)
    if state is not None:
        HELD[name].restore_state(state)
    return HELD[name].path.reason


def use_sgd(_: Ranks, name: str, rate: float) -> None:
    HELD[name].optimizer = torch.optim.SGD(HELD[name].trained, lr=rate)  # type: ignore[assignment]


def steps(_: Ranks, name: str, given: Sequence[Step]) -> list[dict[str, float]]:
    """The metrics of some steps."""
    return [HELD[name].step(*one).metrics for one in given]


def drowsy_steps(_: Ranks, name: str, given: Sequence[Step]) -> list[dict[str, float]]:
    """The metrics of some steps, behind each of which the trainer sleeps. Its home is a CPU by another name, so that all its
    weights are laid down and taken up as on a GPU."""
    held = HELD[name]
    held._offload = Offload(torch.device("cpu", 0))
    metrics = []
    for one in given:
        held.wake()
        metrics.append(held.step(*one).metrics)
        held.sleep()
    held.wake()
    return metrics


def weights(_: Ranks, name: str) -> dict[str, Tensor]:
    return HELD[name].weights()


def canary(_: Ranks, name: str, ids: list[int]) -> float:
    return HELD[name].canary(ids)


def chunk_logits(_: Ranks, logits: int) -> int:
    """How many logits of the head exist at a time; returns how many did before."""
    before, head.CHUNK_LOGITS = head.CHUNK_LOGITS, logits
    return before


def stand_still(ranks: Ranks, name: str, given: Sequence[Step]) -> list[dict[str, float]]:
    """The second rank stops its process; the first one steps."""
    if not ranks.first:
        os.kill(os.getpid(), signal.SIGSTOP)
    return [HELD[name].step(*one).metrics for one in given]


def save(_: Ranks, name: str, folder: Path) -> None:
    HELD[name].save(folder, {"step": 1}, optimizer=True)


def moments(_: Ranks, name: str) -> int:
    """How many parameters the optimizer has a state of."""
    return len(HELD[name].optimizer.state)


def held_numbers(_: Ranks, name: str) -> tuple[int, int]:
    """Numbers of the model's parameters that this process holds, and of all of them."""
    parameters = list(HELD[name].model.parameters())
    local: list[Any] = [p.to_local() if hasattr(p, "to_local") else p for p in parameters]
    return sum(p.numel() for p in local), sum(p.numel() for p in parameters)


def write_model(ranks: Ranks, name: str, folder: Path, file_bytes: int) -> None:
    ModelWriter(HELD[name].model, folder, writes=ranks.first, file_bytes=file_bytes).write()


def write_state(ranks: Ranks, name: str, folder: Path, part_bytes: int) -> Exception | None:
    held = HELD[name]
    return save_state(folder, held.model, held.optimizer, {}, ranks, part_bytes)


def published(_: Ranks, name: str, root: Path, draft: Checkpoint) -> Checkpoint | None:
    return publish(HELD[name], LocalStorage(root, 1), draft, optimizer=True)
