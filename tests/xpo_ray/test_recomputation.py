"""Activation checkpointing: the same numbers from fewer saved activations."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.tiny import tiny_model_folder
from xpo_ray.adapters import Adapter
from xpo_ray.checkpoints import load_model
from xpo_ray.errors import ModelError
from xpo_ray.logprobs import LogProbFunction, PromptGroup, plain, precision, shared
from xpo_ray.logprobs.shared import use_packed_attention
from xpo_ray.recomputation import recompute_layers
from xpo_ray.spec.data import LoraSpec, ModelSpec

pytestmark = pytest.mark.usefixtures("one_thread")

GROUPS = [PromptGroup(list(range(20, 60)), (list(range(60, 100)), list(range(100, 130))))]


def saved_bytes(model: nn.Module, work: Callable[[], Tensor]) -> tuple[Tensor, int]:
    """What `work` returns, and the bytes that autograd saves for its backward pass, parameters not counted."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = work()
    return out, sum(seen.values())


def gradients(model: Any, path: LogProbFunction, dtype: Any) -> tuple[Tensor, list[Tensor], int]:
    def work() -> Tensor:
        with precision(dtype, torch.device("cpu")):
            return path(model, GROUPS).logp_S.sum()

    loss, size = saved_bytes(model, work)
    trained = [p for p in model.parameters() if p.requires_grad]
    return loss.detach(), list(torch.autograd.grad(loss, trained)), size


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("path", [plain, shared], ids=["plain", "shared"])
@pytest.mark.parametrize("lora", [None, LoraSpec(rank=2)], ids=["full", "lora"])
def test_loss_and_gradients_are_the_same_to_the_bit_and_less_is_saved(
    tmp_path: Path, path: LogProbFunction, dtype: Any, lora: LoraSpec | None
) -> None:
    folder = tiny_model_folder(tmp_path, layers=4)
    made = []
    for again in (False, True):
        model: Any = load_model(folder, "float32") if lora is None else Adapter(ModelSpec(path=str(folder)), lora).model
        use_packed_attention(model)
        if again:
            recompute_layers(model)
        made.append(gradients(model, path, dtype))
    (loss, grads, size), (loss_again, grads_again, size_again) = made
    assert torch.equal(loss, loss_again)
    assert all(torch.equal(a, b) for a, b in zip(grads, grads_again, strict=True))
    assert size_again < 0.6 * size


def test_names_mode_and_forward_passes_without_gradients_are_as_before(model_folder: Path) -> None:
    one, other = load_model(model_folder, "float32"), load_model(model_folder, "float32")
    recompute_layers(one)
    assert [n for n, _ in one.named_parameters()] == [n for n, _ in other.named_parameters()]
    assert not any(m.training for m in one.modules())
    with torch.no_grad():
        assert torch.equal(plain(one, GROUPS).logp_S, plain(other, GROUPS).logp_S)


def test_dropout_of_the_models_config_stays_off(model_folder: Path) -> None:
    one, other = load_model(model_folder, "float32"), load_model(model_folder, "float32")
    for layer in one.model.layers:
        layer.self_attn.attention_dropout = 0.5
    recompute_layers(one)
    assert torch.equal(plain(one, GROUPS).logp_S, plain(other, GROUPS).logp_S)


def test_a_model_without_such_layers_is_refused() -> None:
    with pytest.raises(ModelError, match=r"activation_checkpointing: Linear has no layers .* set it to false"):
        recompute_layers(nn.Linear(2, 2))
