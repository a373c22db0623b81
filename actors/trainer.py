"""The actor around xpo_ray.training.Trainer: a process, a thread count, and published checkpoints."""

import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from xpo_ray.actors.trainer_verbs import TrainerVerbs
from xpo_ray.spec.run import RunSpec
from xpo_ray.storage import Checkpoint, Storage
from xpo_ray.training import Trainer


class TrainerActor(TrainerVerbs):
    """The one trainer of a run. It dies as one: a new incarnation starts from the last published checkpoint."""

    def __init__(self, spec: RunSpec, storage: Storage, threads: int, checkpoint: Checkpoint | None) -> None:
        torch.set_num_threads(threads)
        warnings.filterwarnings("ignore", "Zero-copy tensor serialization")  # nobody writes to weights that came by ref
        folder = None if checkpoint is None else storage.folder(checkpoint)
        path = spec.model.path if folder is None else str(folder / "model")
        revision = spec.model.revision if folder is None else None
        self.trainer = Trainer(spec.training, path, spec.model.dtype, revision, origin=spec.model, seed=spec.seed or 0)
        if folder is not None:
            self.trainer.restore_state(folder)
        self.storage = storage

    def publish(self, draft: Checkpoint, optimizer: bool) -> tuple[None, Checkpoint]:
        """Publish the state between two steps as a checkpoint."""
        self.trainer.wake()
        position = {"iteration": draft.iteration, "step": draft.step, "total_steps": draft.total_steps}

        def write(folder: Path) -> None:
            self.trainer.save(folder, position, optimizer=optimizer)

        return None, self.storage.publish_checkpoint(write, replace(draft, files={}))

    def ready(self) -> tuple[None, dict[str, Any]]:
        """Process id and threads, once the model is loaded, and why log-probs take the plain path if they do."""
        path = self.trainer.path
        return None, {"pid": os.getpid(), "threads": torch.get_num_threads(), "why_plain": path.reason}
