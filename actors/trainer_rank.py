"""The actor around xpo_ray.group: one rank of a trainer group, with the verbs of the trainer that is alone."""

import os
import warnings
from pathlib import Path
from typing import Any

import ray
import torch

from xpo_ray.actors.trainer_verbs import TrainerVerbs
from xpo_ray.devices import own_device
from xpo_ray.group.publishing import publish
from xpo_ray.group.ranks import Ranks, open_store
from xpo_ray.group.trainer import GroupTrainer
from xpo_ray.spec.run import RunSpec
from xpo_ray.storage import Checkpoint, Storage


class TrainerRank(TrainerVerbs):
    """One process of a group. The group dies as one: whoever calls the ranks ends all of them when one fails."""

    def __init__(
        self, spec: RunSpec, storage: Storage, threads: int, checkpoint: Checkpoint | None, rank: int, size: int
    ) -> None:
        torch.set_num_threads(threads)
        warnings.filterwarnings("ignore", "Zero-copy tensor serialization")  # nobody writes to weights that came by ref
        self.spec = spec
        self.storage = storage
        self.checkpoint = checkpoint
        self.rank = rank
        self.size = size
        self.trainer: GroupTrainer
        self._store: Any = None

    def address(self) -> tuple[str, int]:
        """Where the ranks meet: here, at the first of them."""
        self._store = open_store(ray.util.get_node_ip_address(), self.spec.resources.group_timeout_s)
        return ray.util.get_node_ip_address(), self._store.port

    def join(self, address: tuple[str, int]) -> tuple[None, None]:
        """Meet the other ranks, and take the rows of the checkpoint's model, or of the initial one's."""
        limit_s = self.spec.resources.group_timeout_s
        ranks = Ranks.join(self._store or address, self.rank, self.size, limit_s, _device())
        spec, folder = self.spec, self._checked(ranks)
        path = None if folder is None else str(folder / "model")
        self.trainer = GroupTrainer(spec.training, ranks, spec.model, path, spec.seed or 0)
        if folder is not None:
            self.trainer.restore_state(folder)
        return None, None

    def _checked(self, ranks: Ranks) -> Path | None:
        """The checkpoint's folder, whose files one rank looks at for all."""
        if self.checkpoint is None:
            return None
        path = ranks.from_first(str(self.storage.folder(self.checkpoint).absolute()) if ranks.first else None)
        return None if path is None else Path(path)

    def publish(self, draft: Checkpoint, optimizer: bool) -> tuple[None, Checkpoint | None]:
        """Publish the state between two steps as a checkpoint."""
        self.trainer.wake()
        return None, publish(self.trainer, self.storage, draft, optimizer=optimizer)

    def ready(self) -> tuple[None, dict[str, Any]]:
        """As the trainer that is alone, and how many ranks there are."""
        why = self.trainer.path.reason
        return None, {"pid": os.getpid(), "threads": torch.get_num_threads(), "why_plain": why, "workers": self.size}


def _device() -> torch.device:
    """This process's own, which NCCL takes for its messages."""
    device = own_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device
