"""Linear layers on a CPU through oneDNN, where its float32 matrix product is faster than the one that torch calls: on AMD.

Measured there on one core: MKL 92 to 103 GFLOP/s, oneDNN 108 to 115. Whoever makes a model calls `through_onednn` once; the
weights, their names and the modules stay what they are. Other processors, dtypes and devices are left alone.
"""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

MOST_PACKED = 2**26
"""Weights (256 MiB) of a frozen model that are held a second time, in the order in which oneDNN reads them, and those of
layers that compute together a third time."""
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


def together(layers: Sequence[nn.Module]) -> Callable[[Tensor], Sequence[Tensor]]:
    """Several layers that read the same input, for `no_grad`: one product where their weights are packed, else one each."""
    forwards = [vars(x).get("forward", x) for x in layers]
    if all(isinstance(f, OneDnnForward) and f.packs and f.layer.bias is None for f in forwards):
        return PackedTogether([f.layer for f in forwards])
    return lambda input: [f(input) for f in forwards]


class OneDnnForward:
    """The forward pass of one layer."""

    def __init__(self, layer: nn.Linear, *, packs: bool) -> None:
        self.layer = layer
        self.packs = packs
        self._packed = Packed([layer])

    def __call__(self, input: Tensor) -> Tensor:
        weight, bias = self.layer.weight, self.layer.bias
        if not _fits(input, weight):
            return F.linear(input, weight, bias)
        if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (input, weight, bias)):
            output: Tensor = OneDnnLinear.apply(input, weight, bias)  # type: ignore[no-untyped-call]
            return output
        return _product(input, self._packed.weight() if self.packs else weight, bias)


class PackedTogether:
    """Layers without bias as one product, whose columns are theirs one after another."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        self._layers = layers
        self._widths = [x.out_features for x in layers]
        self._packed = Packed(layers)

    def __call__(self, input: Tensor) -> Sequence[Tensor]:
        if not _fits(input, self._layers[0].weight):
            return [F.linear(input, x.weight) for x in self._layers]
        return torch.split(_product(input, self._packed.weight(), None), self._widths, dim=-1)


class Packed:
    """The weights of frozen layers, one below another, in the order in which oneDNN reads them."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        self._layers = layers
        self._made: Tensor | None = None
        self._made_from: list[tuple[int, int]] = []

    def weight(self) -> Tensor:
        """The weights as they are now: packed again when one lies elsewhere or was written to."""
        weights = [x.weight for x in self._layers]
        now = [(w.data_ptr(), w._version) for w in weights]
        if self._made is None or self._made_from != now:
            whole = weights[0].detach() if len(weights) == 1 else torch.cat([w.detach() for w in weights])
            self._made = torch.ops.mkldnn._reorder_linear_weight(whole, ROWS)
            self._made_from = now
        return self._made


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
