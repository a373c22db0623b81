"""Floating-point operations of one update: by formula for each side, counted by torch on what is really run, and the peak.

A multiplication and an addition are two operations. Attention counts every (query, key) pair of the rectangle that is given
to it, causal or not, and its backward pass five products where the forward pass has two: so counts torch's FlopCounterMode,
which the formulas are checked against. Both sides import this.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod

import torch
from race_task import Task
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

TOLERANCE = 0.02


@dataclass(frozen=True)
class Work:
    """A forward pass: tokens through the layers, (query, key) pairs of attention, positions that get logits, and positions that
    the last layer's feed-forward part leaves out."""

    tokens: int
    pairs: int
    logits: int = 0
    unread: int = 0

    def forward(self, task: Task) -> float:
        return self._products(task) + 4.0 * task.hidden * task.layers * self.pairs

    def backward(self, task: Task) -> float:
        """Each product has two in the backward pass; attention has five for its two."""
        return 2.0 * self._products(task) + 10.0 * task.hidden * task.layers * self.pairs

    def _products(self, task: Task) -> float:
        mlp = 3 * task.hidden * task.intermediate
        layers = task.layers * (4 * task.hidden**2 + mlp) * self.tokens - mlp * self.unread
        return 2.0 * (layers + task.hidden * task.vocabulary * self.logits)


def drawing(task: Task, *, last_alone: bool) -> Work:
    """One response to each prompt of a window: the prompts, then token after token behind a cache. `last_alone`: prompts are
    read for their last position."""
    p, t = task.prompt_tokens, task.new_tokens
    pairs = p * p + sum(p + i for i in range(1, t))
    return Work(task.batch * (p + t - 1), task.batch * pairs, task.batch * t, task.batch * (p - 1) * last_alone)


def whole_sequences(task: Task, *, logits: bool) -> Work:
    """Both responses of a window, each behind its own copy of the prompt."""
    rows = 2 * task.batch
    return Work(rows * task.length, rows * task.length**2, rows * task.length if logits else 0)


def shared_prefix(task: Task, *, logits: bool = True) -> Work:
    """Both responses behind one prompt, read where a response's token follows (logits) or at the last tokens."""
    p, t = task.prompt_tokens, task.new_tokens
    read = 2 * t if logits else 2
    pairs = p * p + 2 * t * (p + t)
    return Work(
        task.batch * (p + 2 * t), task.batch * pairs, task.batch * 2 * t * logits, task.batch * (p + 2 * t - read)
    )


def of_trl(task: Task) -> float:
    """Operations of one update of TRL's XPOTrainer."""
    judged = whole_sequences(task, logits=False).forward(task)
    return (
        2 * drawing(task, last_alone=False).forward(task) + judged + _trained(whole_sequences(task, logits=True), task)
    )


def of_xpo_ray(task: Task) -> float:
    """Operations of one window of xpo_ray; the reward model reads prompts once too."""
    judged = shared_prefix(task, logits=False).forward(task)
    return 2 * drawing(task, last_alone=True).forward(task) + judged + _trained(shared_prefix(task), task)


def _trained(work: Work, task: Task) -> float:
    """Log-probs under the reference, and forward and backward of the policy."""
    return 2 * work.forward(task) + work.backward(task)


@contextmanager
def counted(into: list[float]) -> Iterator[None]:
    """Append the operations of what is run inside; torch's counter knows neither the attention of CPUs nor oneDNN by itself."""
    aten = torch.ops.aten
    kernels = {
        aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
        aten._scaled_dot_product_flash_attention_for_cpu_backward: (
            lambda g, q, k, v, *_, **__: sdpa_backward_flop_count(g, q, k, v)
        ),
        torch.ops.mkldnn._linear_pointwise: lambda x, w, *_, **__: 2 * prod(x) * w[0],
    }
    with FlopCounterMode(display=False, custom_mapping=kernels) as counter:
        yield
    into.append(float(counter.get_total_flops()))


def check(side: str, formula: float, count: float) -> None:
    """Exit where a formula is not what torch counts."""
    if abs(formula / count - 1.0) > TOLERANCE:
        raise SystemExit(f"{side}: the formula gives {formula:.4g} operations per update, torch counts {count:.4g}")


def peak(threads: int, size: int = 2048, seconds: float = 2.0) -> float:
    """Operations per second of the fastest of many float32 matrix products, by torch's usual library and by oneDNN."""
    torch.set_num_threads(threads)
    a, b = torch.randn(size, size), torch.randn(size, size)
    products = [lambda: torch.mm(a, b)]
    if torch.backends.mkldnn.is_available():
        products.append(lambda: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], ""))
    best, stop = float("inf"), time.monotonic() + seconds
    while time.monotonic() < stop:
        for product in products:
            started = time.perf_counter()
            product()
            best = min(best, time.perf_counter() - started)
    return 2.0 * size**3 / best
