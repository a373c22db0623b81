"""Gradients made side by side: on a CPU each lane is a thread with one core, which takes its own share of a window.

Operators that share their cores wait for each other at every one of them; lanes meet once in a step. The sum over lanes is
made in their order, so that the result does not depend on which was faster. The trainer calls this; a GPU has one lane, and so
has a model whose operators are long enough to share the cores.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from xpo_ray.group.shares import shared_out

Told = TypeVar("Told")
Work = Callable[[list[int]], Iterator[tuple[Tensor, Told]]]
"""From the places of its examples to a loss, and what is to be told of it, for each micro-batch."""
LEAST_EACH = 2
"""Examples for each lane, on the mean, below which there are fewer lanes."""
MOST_WEIGHTS = 2**25
"""Trained weights up to which lanes pay; benchmarks/lanes.py measures it. Each lane adds up gradients of its own, which costs
memory traffic by the weights and saves waiting by the operators. A rule of the model and the cores, never a measurement: the
number of lanes decides how gradients are summed, and a run that is resumed must sum them alike."""


class Lanes:
    """As many threads as torch may use here, kept for the life of a trainer."""

    def __init__(self, device: torch.device, most: int | None = None, weights: int = 0) -> None:
        """`weights`: how many are trained, which decides between lanes and operators that share their cores."""
        threads = most or torch.get_num_threads()
        self.most = threads if device.type == "cpu" and weights <= MOST_WEIGHTS else 1
        self._threads = ThreadPoolExecutor(self.most, "lane", initializer=torch.set_num_threads, initargs=(1,))

    def shares(self, work: Sequence[int]) -> list[list[int]]:
        """Places of examples for each lane: the longest first, each to the lane that has least so far. An example whose work
        (the tokens that are computed for it) outweighs the others has a lane for itself."""
        lanes = max(min(self.most, len(work) // LEAST_EACH), 1)
        return shared_out(work, lanes)

    def backward(self, parameters: Sequence[Tensor], shares: Sequence[list[int]], work: Work[Told]) -> list[Told]:
        """Add the gradients of all losses to `parameters`; returns what was told, lane by lane. Raises what a lane raised."""
        if len(shares) == 1:
            return [_backward(loss, told) for loss, told in work(shares[0])]
        running = [self._threads.submit(_of_lane, parameters, share, work) for share in shares]
        done = [lane.result() for lane in running]
        for k, parameter in enumerate(parameters):
            for gradients, _ in done:
                _add(parameter, gradients[k])
        return [told for _, all_told in done for told in all_told]


def _backward(loss: Tensor, told: Told) -> Told:
    torch.autograd.backward(loss)
    return told


def _of_lane(
    parameters: Sequence[Tensor], share: list[int], work: Work[Told]
) -> tuple[list[Tensor | None], list[Told]]:
    """The gradients of a lane's losses, apart from those of the others."""
    sums: list[Tensor | None] = [None] * len(parameters)
    all_told = []
    for loss, told in work(share):
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        sums = [b if a is None else a if b is None else a.add_(b) for a, b in zip(sums, gradients, strict=True)]
        all_told.append(told)
    return sums, all_told


def _add(parameter: Tensor, gradient: Tensor | None) -> None:
    if gradient is not None:
        parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
