"""What a trainer that is alone and a rank of a group answer alike. TrainerActor and TrainerRank are these and more."""

from collections.abc import Sequence

import pyarrow as pa
import torch

from xpo_ray.crashpoints import crash_point
from xpo_ray.group.trainer import GroupTrainer
from xpo_ray.steps import StepOrder, StepResult
from xpo_ray.training import Trainer


class TrainerVerbs:
    """Each verb returns (result that stays in the object store, summary)."""

    trainer: Trainer | GroupTrainer

    def begin(self, reset_optimizer: bool) -> tuple[None, None]:
        """An iteration begins at its first step."""
        if reset_optimizer:
            self.trainer.reset_optimizer()
        return None, None

    def step(self, order: StepOrder, *shards: pa.Table) -> tuple[None, StepResult]:
        """One optimizer step, or a rank's part of it; `shards` are the tables of the window's slices."""
        self.trainer.wake()
        result = self.trainer.step(order, shards)
        crash_point("step.after_step")
        return None, result

    def weights(self) -> tuple[dict[str, torch.Tensor], None]:
        """The policy's weights, to travel by object ref; of a group's first rank alone."""
        self.trainer.wake()
        return self.trainer.weights(), None

    def canary(self, ids: Sequence[int]) -> tuple[None, float]:
        """Mean log-prob per token of the canary text."""
        self.trainer.wake()
        return None, self.trainer.canary(ids)

    def sleep(self) -> tuple[None, None]:
        """Leave the GPU to others until the next step, canary or hand-over."""
        self.trainer.sleep()
        return None, None
