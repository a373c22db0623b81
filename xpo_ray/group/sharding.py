"""A policy whose matrices lie in rows on the ranks of a group (FSDP2), and its log-probs.

A layer's matrices are whole only while the layer computes. Vectors (norms, biases) are small and whole on every rank; who
trains adds up their gradients. In bfloat16 matrices of linear layers travel and compute in it, as autocast has it in one
worker; embeddings and vectors stay in float32, so that the group's log-probs are those of one worker and of the reference.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from transformers.modeling_layers import GradientCheckpointingLayer

from xpo_ray.group.ranks import Ranks, whole_group
from xpo_ray.group.weight_rows import WeightRows
from xpo_ray.logprobs import LogProbFunction, PromptGroup, ResponseLogProbs


class Whole(nn.Module):
    """The outermost module of a sharded model. What is called goes through its forward pass, inside which the weights that
    belong to no layer are whole."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, call: Callable[..., Any], *args: Any) -> Any:
        return call(self.model, *args)

    def call(self, call: Callable[..., Any], *args: Any) -> Any:
        """call(model, …), by every rank; afterwards weights lie in rows again, unless a backward pass is to follow."""
        with whole_group():
            answer = self(call, *args)
        if not torch.is_grad_enabled() and isinstance(self, FSDPModule):
            self.reset_iter_state()
        return answer


def shard(model: nn.Module, ranks: Ranks, dtype: Literal["float32", "bfloat16"]) -> Whole:
    """Let the matrices of a model lie in rows on the ranks: each layer's together, each embedding's, and those of the rest."""
    whole = Whole(model)
    vectors = {p for p in model.parameters() if p.dim() < 2}
    half = torch.bfloat16 if dtype == "bfloat16" else None
    exact, fast = (
        MixedPrecisionPolicy(param_dtype=d, reduce_dtype=torch.float32, cast_forward_inputs=False) for d in (None, half)
    )
    embeddings = [m for m in model.modules() if isinstance(m, nn.Embedding)]
    shared = {id(p) for _, p, owners in _named(model) if len(owners) > 1}
    for embedding in embeddings:
        if id(embedding.weight) not in shared:
            fully_shard(embedding, mesh=ranks.mesh, mp_policy=exact, ignored_params=vectors)
    for layer in reversed([m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]):
        fully_shard(layer, mesh=ranks.mesh, mp_policy=fast, ignored_params=vectors)
    tied = any(id(e.weight) in shared for e in embeddings)
    fully_shard(whole, mesh=ranks.mesh, mp_policy=exact if tied else fast, ignored_params=vectors)
    for module in whole.modules():
        if isinstance(module, FSDPModule):
            module.set_force_sum_reduction_for_comms(True)
            module.set_gradient_divide_factor(1.0)  # micro-batches are divided by the counts of the whole window
    return whole


def read_weights(model: nn.Module, folder: Path, ranks: Ranks) -> None:
    """Give a sharded model that has no storage yet its rows of the weights in a folder. Raises ModelError."""
    rows = WeightRows(folder)
    for names, parameter, owners in _named(model):
        if isinstance(parameter, DTensor) and parameter.to_local().is_meta:
            begin, end = own_rows(parameter, ranks)
            local = rows.read(names, tuple(parameter.shape), begin, end).to(ranks.device, parameter.dtype).contiguous()
            assert local.shape == parameter.to_local().shape, f"{names[0]}: {local.shape}"
            made = DTensor.from_local(
                local, parameter.device_mesh, parameter.placements, shape=parameter.shape, stride=parameter.stride()
            )
            held = nn.Parameter(made, requires_grad=parameter.requires_grad)
            for module, name in owners:
                module._parameters[name] = held
        elif not isinstance(parameter, DTensor):
            read = rows.read(names, tuple(parameter.shape), 0, parameter.numel())
            parameter.data = read.to(ranks.device, parameter.dtype)
    _read_buffers(model, rows, ranks)


def _read_buffers(model: nn.Module, rows: WeightRows, ranks: Ranks) -> None:
    kept = model.state_dict().keys()
    for name, buffer in model.named_buffers():
        made = rows.read([name], tuple(buffer.shape), 0, 2**62) if name in kept else buffer
        owner, _, own = name.rpartition(".")
        model.get_submodule(owner)._buffers[own] = made.to(ranks.device, buffer.dtype)


def own_rows(parameter: DTensor, ranks: Ranks) -> tuple[int, int]:
    """The rows of a matrix that this rank holds: as many as `torch.chunk` gives it."""
    rows = parameter.shape[0]
    each = -(-rows // ranks.size)
    return min(ranks.rank * each, rows), min((ranks.rank + 1) * each, rows)


def full(tensor: Tensor) -> Tensor:
    """All rows, on every rank."""
    with whole_group():
        return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@dataclass(frozen=True)
class ShardedLogProbs:
    """A LogProbFunction on a sharded model, by another one's path; every rank calls it as often as the others."""

    whole: Whole
    path: LogProbFunction

    def __call__(self, model: nn.Module, groups: Sequence[PromptGroup], *, entropy: bool = False) -> ResponseLogProbs:
        assert model is self.whole.model
        return ResponseLogProbs(*self.whole.call(_flat, self.path, groups, entropy))

    def tokens(self, groups: Sequence[PromptGroup]) -> int:
        return self.path.tokens(groups)


def _flat(
    model: nn.Module, path: LogProbFunction, groups: Sequence[PromptGroup], entropy: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """As a tuple, in which FSDP finds the tensors that a backward pass begins at."""
    out = path(model, groups, entropy=entropy)
    return out.logp_S, out.tokens_S, out.entropy_S


def _named(model: nn.Module) -> Iterator[tuple[list[str], nn.Parameter, list[tuple[nn.Module, str]]]]:
    """Every parameter once: all the names that it has in files, and where it hangs."""
    found: dict[int, tuple[list[str], nn.Parameter, list[tuple[nn.Module, str]]]] = {}
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            names, _, owners = found.setdefault(id(parameter), ([], parameter, []))
            names.append(f"{prefix}.{name}".removeprefix(".").replace(".base_layer.", "."))
            owners.append((module, name))
    yield from found.values()
