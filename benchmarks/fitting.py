"""One training loop for the small models of the benchmarks: warm-up, then a straight line to zero; plain PyTorch, no Ray.

small_policy and small_reward_model call it with a loss of their own. Batches are right-padded and need no attention mask,
because in a causal model no token sees what stands behind it; the losses read real positions alone.
"""

import random
import sys
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

Item = TypeVar("Item")
WARMUP = 0.05
SORTED_BATCHES = 16  # batches whose items are sorted by length together, so that little is padded


def padded(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
    """Rows as a matrix, filled up on the right."""
    length = max(map(len, rows))
    return torch.tensor([[*row, *[fill] * (length - len(row))] for row in rows])


def batches_of(items: Sequence[Item], size: int, length: Callable[[Item], int], rng: random.Random) -> list[list[Item]]:
    """One epoch: shuffled batches of items of similar length."""
    shuffled = rng.sample(items, len(items))
    span = size * SORTED_BATCHES
    groups = [sorted(shuffled[i : i + span], key=length) for i in range(0, len(shuffled), span)]
    batches = [group[i : i + size] for group in groups for i in range(0, len(group), size)]
    rng.shuffle(batches)
    return batches


def fit(
    model: torch.nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    batches: Sequence[Sequence[Item]],
    loss: Callable[[Sequence[Item]], Tensor],
    what: str,
) -> None:
    """One step per batch; each optimizer's learning rate is its highest."""
    schedules = [torch.optim.lr_scheduler.LambdaLR(o, lambda step: _rate(step, len(batches))) for o in optimizers]
    model.train()
    progress = Progress(what, len(batches))
    for batch in batches:
        value = loss(batch)
        model.zero_grad(set_to_none=True)
        torch.autograd.backward(value)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for stepper in (*optimizers, *schedules):
            stepper.step()
        progress.step(float(value.detach()))
    model.eval()


def _rate(step: int, steps: int) -> float:
    return min((step + 1) / max(1.0, WARMUP * steps), 1.0) * (1.0 - step / steps)


class Progress:
    """A line that says how far a loop is, with the mean loss since the last one; ten lines in a log."""

    def __init__(self, what: str, steps: int) -> None:
        self.what, self.steps = what, steps
        self.every = max(1, steps // 10)
        self.started = time.monotonic()
        self.done = 0
        self.losses: list[float] = []

    def step(self, loss: float) -> None:
        """One step is done."""
        self.done += 1
        self.losses.append(loss)
        if self.done % self.every == 0 or self.done == self.steps:
            mean, seconds = sum(self.losses) / len(self.losses), time.monotonic() - self.started
            print(f"  {self.what}: step {self.done}/{self.steps}, loss {mean:.3f}, {seconds:.0f} s", file=sys.stderr)
            self.losses.clear()
