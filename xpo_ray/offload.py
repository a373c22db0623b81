"""A trainer asleep: its weights and its optimizer's state lie in the CPU's memory, so that others have the GPU.

Where roles take turns on the same GPUs the driver puts it to sleep; the next step, canary or hand-over of weights wakes it. On
a CPU nothing moves.
"""

import time
from typing import Any

import torch
from torch import Tensor, nn

from xpo_ray.devices import CPU, emptied

TRIES, WAIT_S = 30, 0.5
"""How often, and how far apart, a trainer looks for room on a GPU that others are leaving."""


class Offload:
    """Moves a model and its optimizer between the device that they were made on and the CPU; no number changes."""

    def __init__(self, home: torch.device) -> None:
        self._home = home
        self._asleep = False
        self._moved: list[tuple[dict[str, Any], str]] = []
        """Of the optimizer's state; its counts of steps may lie on the CPU all the time."""

    def sleep(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Between two steps: there are no gradients."""
        if self._home == CPU or self._asleep:
            return
        _lay_model(model, CPU)
        self._moved = [
            (state, name)
            for state in optimizer.state.values()
            for name, value in state.items()
            if isinstance(value, Tensor) and value.device == self._home
        ]
        self._lay(CPU)
        self._asleep = True
        emptied(self._home)

    def wake(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Back to where they compute; an optimizer that was made anew meanwhile has no state yet. Where there is no room, those
        who had the GPU may still be leaving it: a process that was ended keeps its memory for some seconds."""
        tries = 0
        while self._asleep:
            try:
                self._wake(model, optimizer)
            except torch.OutOfMemoryError:
                tries += 1
                if tries == TRIES:
                    raise
                emptied(self._home)
                time.sleep(WAIT_S)

    def _wake(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """May be done again where it was broken off."""
        _lay_model(model, self._home)
        present = {id(state) for state in optimizer.state.values()}
        self._moved = [(state, name) for state, name in self._moved if id(state) in present]
        self._lay(self._home)
        self._moved, self._asleep = [], False

    def _lay(self, device: torch.device) -> None:
        for state, name in self._moved:
            state[name] = state[name].to(device)


def _lay_model(model: nn.Module, device: torch.device) -> None:
    before = list(model.parameters())
    model.to(device)
    assert all(a is b for a, b in zip(before, model.parameters(), strict=True)), (
        "the optimizer would train what is gone"
    )
