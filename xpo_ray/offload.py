"""A trainer asleep: its weights and its optimizer's state lie in the CPU's memory, so that others have the GPU. Where roles take
turns on the same GPUs the driver puts it to sleep; the next step, canary or hand-over of weights wakes it. On a CPU nothing moves.
"""

import torch
from torch import Tensor, nn

CPU = torch.device("cpu")


class Offload:
    """Moves a model and its optimizer between the device that they were made on and the CPU; no number changes."""

    def __init__(self, home: torch.device) -> None:
        self._home = home
        self._asleep = False

    def sleep(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Between two steps: there are no gradients."""
        if self._home != CPU and not self._asleep:
            lay(model, optimizer, CPU)
            self._asleep = True
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def wake(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Back to where they compute."""
        if self._asleep:
            lay(model, optimizer, self._home)
            self._asleep = False


def lay(model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Parameters stay the objects that the optimizer knows; its state follows them."""
    model.to(device)
    for state in optimizer.state.values():
        for name, value in state.items():
            if isinstance(value, Tensor):
                state[name] = value.to(device)
