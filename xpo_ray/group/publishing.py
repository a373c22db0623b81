"""A checkpoint of a group: one draft folder that all ranks write into, published by the first one after all have confirmed.

All ranks call `publish` alike. A rank that dies before it has confirmed leaves a draft that nobody publishes.
"""

from dataclasses import replace
from pathlib import Path

from xpo_ray.group.trainer import GroupTrainer
from xpo_ray.storage import Checkpoint, Storage


def publish(trainer: GroupTrainer, storage: Storage, draft: Checkpoint, *, optimizer: bool) -> Checkpoint | None:
    """Publish the state between two steps; returns what stands under the name, to the first rank alone."""
    position = {"iteration": draft.iteration, "step": draft.step, "total_steps": draft.total_steps}
    if not trainer.ranks.first:
        folder: str | None = trainer.ranks.from_first(None)
        if folder is not None:
            trainer.save(Path(folder), position, optimizer=optimizer)
        return None
    told = False

    def write(folder: Path) -> None:
        nonlocal told
        told = True
        trainer.ranks.from_first(str(folder.absolute()))
        trainer.save(folder, position, optimizer=optimizer)

    try:
        return storage.publish_checkpoint(write, replace(draft, files={}))
    finally:
        if not told:  # it stands there already, or there is no room for it: the others wait to hear so
            trainer.ranks.from_first(None)
