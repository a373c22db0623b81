"""Linear layers on a CPU through oneDNN, where its float32 matrix product is faster than the one that torch calls: on AMD.

Measured there on one core: MKL 92 to 103 GFLOP/s, oneDNN 108 to 115. Whoever makes a model calls `through_onednn` once; the
weights, their names and the modules stay what they are. Other processors, dtypes and devices are left alone.
"""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

MOST_PACKED = 2**26
"""Weights (256 MiB) of a frozen model that are held a second time, in the order in which oneDNN reads them."""
ROWS = 64
"""The number of rows that a packed weight is laid out for: a batch that is being drawn."""


def through_onednn(model: nn.Module, *, frozen: bool) -> None:
    """Let the model's plain linear layers compute through oneDNN where `faster_here`. `frozen`: its weights change only when
    others are copied into them, so that packing them pays; a fused optimizer's step would leave no trace of the change."""
    if not faster_here():
        return
    layers = [m for m in model.modules() if type(m) is nn.Linear and "forward" not in m.__dict__]
    packs = frozen and sum(m.weight.numel() for m in layers) <= MOST_PACKED
    for layer in layers:
        layer.forward = OneDnnForward(layer, packs=packs)  # type: ignore[method-assign]


@cache
def faster_here() -> bool:
    """Whether this machine's processor is an AMD and torch has oneDNN. A fact of the machine, never a measurement: the same
    run must compute the same bits again."""
    has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return has_onednn and "AuthenticAMD" in _processor()


def _processor() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:  # no Linux
        return ""


class OneDnnForward:
    """The forward pass of one layer."""

    def __init__(self, layer: nn.Linear, *, packs: bool) -> None:
        self._layer = layer
        self._packs = packs
        self._packed: Tensor | None = None
        self._packed_from: tuple[int, int] | None = None

    def __call__(self, input: Tensor) -> Tensor:
        weight, bias = self._layer.weight, self._layer.bias
        if not _fits(input, weight):
            return F.linear(input, weight, bias)
        if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (input, weight, bias)):
            output: Tensor = OneDnnLinear.apply(input, weight, bias)  # type: ignore[no-untyped-call]
            return output
        return _product(input, self._packed_weight() if self._packs else weight, bias)

    def _packed_weight(self) -> Tensor:
        """The weight as it is now, packed: packed again when it lies elsewhere or was written to."""
        weight = self._layer.weight
        now = weight.data_ptr(), weight._version
        if self._packed is None or self._packed_from != now:
            self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS)
            self._packed_from = now
        return self._packed


class OneDnnLinear(torch.autograd.Function):
    """x·Wᵀ + b. The gradient of the weight goes through MKL, which is as fast for that orientation."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(input if ctx.needs_input_grad[1] else None, weight)
        return _product(input, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        input, weight = ctx.saved_tensors
        (gradient,) = gradients
        rows = gradient.reshape(-1, gradient.shape[-1])
        of_input = _product(gradient, weight.t(), None) if ctx.needs_input_grad[0] else None
        of_weight = rows.t() @ input.reshape(-1, input.shape[-1]) if ctx.needs_input_grad[1] else None
        of_bias = rows.sum(0) if ctx.needs_input_grad[2] else None
        return of_input, of_weight, of_bias


def _fits(input: Tensor, weight: Tensor) -> bool:
    return (
        input.dtype == weight.dtype == torch.float32
        and input.device.type == "cpu"
        and input.numel() > 0
        and not torch.is_autocast_enabled("cpu")
    )


def _product(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    output: Tensor = torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
    return output
