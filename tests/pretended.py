"""A device that is not the CPU, for machines that have no other: code that mixes devices fails on it as it would on a GPU.

Tensors say that they lie on ELSEWHERE; what they are is computed on the CPU, by the same kernels, so that results are those of
the CPU to the bit. An operator that gets tensors of both places raises, as CUDA's do: numbers (0 axes) and the indices of
x[indices] may be the CPU's, and copies go from one to the other. Kernels of GPUs are not tried here.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import transformers
from packaging.version import Version
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from xpo_ray.devices import computing_on

ELSEWHERE = torch.device("lazy", 0)
"""A kind of device that no code here treats by its name, and that autograd runs on the calling thread."""
aten: Any = torch.ops.aten
COPIES = {aten._to_copy.default, aten.copy_.default, aten.to.device, aten.to.dtype_layout}
INDEXED = {aten.index.Tensor: 1, aten.index_put.default: 1, aten.index_put_.default: 1}
"""Which argument holds indices that may lie on the CPU."""


class Mixed(RuntimeError):
    """An operator got tensors of both devices."""


class Elsewhere(Tensor):
    """A tensor that says that it lies on ELSEWHERE."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "Elsewhere":
        with torch.inference_mode(False):  # a view of a tensor from outside of it must count versions
            made: Elsewhere = Tensor._make_wrapper_subclass(
                cls, held.size(), held.stride(), held.storage_offset(), dtype=held.dtype, device=ELSEWHERE
            )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(operator, args, kwargs or {})

    def tolist(self) -> Any:
        return self.held.tolist()

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def numpy(self, **_: Any) -> Any:
        raise TypeError("a tensor of another device has no NumPy array; copy it to the CPU first")


class _Factories(TorchDispatchMode):
    """Sees what is made from nothing, too."""

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(operator, args, kwargs or {})


@contextmanager
def elsewhere() -> Iterator[torch.device]:
    """What is made in here for the process's own device lies on ELSEWHERE."""
    if Version(transformers.__version__) < Version("5.19"):
        pytest.skip("Llama in transformers before 5.19 asks its device for autocast, which the pretended one has not")
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor([1], device=…) is made on the CPU and then moved
    try:
        with computing_on(ELSEWHERE), _Factories():
            yield ELSEWHERE
    finally:
        torch._C._set_only_lift_cpu_tensors(before)


def _computed(operator: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    leaves = tree_leaves((args, kwargs))
    own = [x for x in leaves if isinstance(x, Elsewhere)]
    told = [x for x in leaves if isinstance(x, torch.device)]
    if own and operator not in COPIES:
        _refuse_mixed(operator, args, kwargs)
    there = told[0].type == ELSEWHERE.type if told else bool(own)
    if operator is aten.copy_.default:
        there = isinstance(args[0], Elsewhere)
    out = operator(*tree_map(_here, args), **tree_map(_here, kwargs))
    same = {id(x.held): x for x in own}

    def said(x: Any) -> Any:
        return x if not isinstance(x, Tensor) else same[id(x)] if id(x) in same else Elsewhere(x)

    return tree_map(said, out) if there else out


def _refuse_mixed(operator: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    skipped = INDEXED.get(operator)
    checked = [x for place, x in enumerate(args) if place != skipped]
    strange = [x for x in tree_leaves((checked, kwargs)) if isinstance(x, Tensor) and not isinstance(x, Elsewhere)]
    if shapes := [tuple(x.shape) for x in strange if x.dim() > 0]:
        raise Mixed(f"{operator}: tensors of shapes {shapes} lie on the CPU, the others do not")


def _here(x: Any) -> Any:
    """As the CPU is to be called with it."""
    return x.held if isinstance(x, Elsewhere) else torch.device("cpu") if isinstance(x, torch.device) else x
