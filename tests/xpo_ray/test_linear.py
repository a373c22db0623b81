"""Linear layers through oneDNN: forced on, because the operator is there on every CPU build; only its speed is not."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from xpo_ray import linear
from xpo_ray.linear import PackedTogether, through_onednn, together

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")


@pytest.fixture(autouse=True)
def _everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "faster_here", lambda: True)


def pair(*, frozen: bool, bias: bool = True) -> tuple[nn.Module, nn.Module]:
    """Two equal networks, the second through oneDNN."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(24, 40, bias=bias), nn.SiLU(), nn.Linear(40, 8, bias=bias))
    fast = nn.Sequential(nn.Linear(24, 40, bias=bias), nn.SiLU(), nn.Linear(40, 8, bias=bias))
    fast.load_state_dict(plain.state_dict())
    through_onednn(fast, frozen=frozen)
    return plain, fast


def gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    model(x).square().sum().backward()
    assert x.grad is not None
    return [x.grad, *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 24), (1, 24), (2, 7, 24), (3, 1, 24)], ids=str)
def test_values_and_gradients_are_those_of_a_linear_layer(shape: tuple[int, ...], bias: bool) -> None:
    plain, fast = pair(frozen=False, bias=bias)
    x = torch.randn(shape)
    torch.testing.assert_close(fast(x), plain(x), atol=1e-5, rtol=0.0)
    theirs, ours = gradients(plain, x), gradients(fast, x)
    assert len(ours) == len(theirs) == (5 if bias else 3)
    for a, b in zip(ours, theirs, strict=True):
        assert float((a - b).norm() / b.norm()) < 1e-5


def test_an_input_whose_rows_do_not_lie_one_behind_another_is_read_right() -> None:
    plain, fast = pair(frozen=True)
    x = torch.randn(24, 6).t()
    with torch.no_grad():
        torch.testing.assert_close(fast(x), plain(x), atol=1e-5, rtol=0.0)
    torch.testing.assert_close(gradients(fast, x)[1], gradients(plain, x)[1], atol=1e-4, rtol=0.0)


def test_a_frozen_model_that_is_loaded_anew_computes_with_the_new_weights() -> None:
    plain, fast = pair(frozen=True)
    x = torch.randn(4, 24)
    with torch.inference_mode():
        before = fast(x)
    with torch.no_grad():
        for mine, theirs in zip(fast.state_dict().values(), plain.state_dict().values(), strict=True):
            theirs.mul_(2.0)
            mine.copy_(theirs)
    with torch.inference_mode():
        after = fast(x)
    torch.testing.assert_close(after, plain(x).detach(), atol=1e-5, rtol=0.0)
    assert (after - before).abs().max() > 0.01


def test_a_step_of_the_optimizer_is_seen_by_the_next_pass() -> None:
    plain, fast = pair(frozen=False)
    x = torch.randn(4, 24)
    for model in (plain, fast):
        with torch.no_grad():
            model(x)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
        gradients(model, x)
        optimizer.step()
    with torch.no_grad():
        torch.testing.assert_close(fast(x), plain(x), atol=1e-4, rtol=0.0)


def test_what_onednn_does_not_take_goes_the_usual_way() -> None:
    plain, fast = pair(frozen=True)
    with torch.no_grad():
        assert fast(torch.empty(0, 24)).shape == (0, 8)
        with torch.autocast("cpu", torch.bfloat16):
            assert fast(torch.randn(2, 24)).dtype == torch.bfloat16
    assert plain.double()(torch.randn(2, 24).double()).dtype == fast.double()(torch.randn(2, 24).double()).dtype


@pytest.mark.parametrize("trained", ["weight", "bias"])
def test_what_alone_is_trained_gets_its_gradient(trained: str) -> None:
    plain, fast = pair(frozen=False)
    for model in (plain, fast):
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.endswith(trained))
    x = torch.randn(5, 24)
    for model in (plain, fast):
        model(x).sum().backward()
    ours = [p.grad for p in fast.parameters() if p.grad is not None]
    theirs = [p.grad for p in plain.parameters() if p.grad is not None]
    assert len(ours) == len(theirs) == 2
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0.0)


def test_a_large_frozen_model_is_not_held_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "MOST_PACKED", 24 * 40)
    plain, fast = pair(frozen=True)
    x = torch.randn(4, 24)
    with torch.inference_mode():
        torch.testing.assert_close(fast(x), plain(x), atol=1e-5, rtol=0.0)
    assert [m.forward.packs for m in fast if isinstance(m, nn.Linear)] == [False, False]


def test_names_and_modules_stay_what_they_are() -> None:
    plain, fast = pair(frozen=True)
    assert list(fast.state_dict()) == list(plain.state_dict())
    assert [type(m) for m in fast] == [type(m) for m in plain]


def test_only_plain_linear_layers_are_touched() -> None:
    class Own(nn.Linear):
        pass

    model = nn.Sequential(Own(4, 4), nn.Linear(4, 4))
    through_onednn(model, frozen=False)
    assert ["forward" in m.__dict__ for m in model] == [False, True]


def test_the_choice_is_a_fact_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for vendor, faster in (("AuthenticAMD", True), ("GenuineIntel", False)):
        monkeypatch.setattr(linear, "_processor", lambda v=vendor: f"vendor_id : {v}\n")
        linear.faster_here.cache_clear()
        assert linear.faster_here() is faster
    linear.faster_here.cache_clear()


def test_a_machine_without_its_file_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "Path", lambda _: Path("/nowhere/cpuinfo"))
    assert linear._processor() == ""


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
@torch.no_grad()
def test_layers_that_read_the_same_give_together_what_each_gives(bias: bool, frozen: bool) -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(24, width, bias=bias) for width in (40, 8, 8)]
    through_onednn(nn.ModuleList(layers), frozen=frozen)
    at_once = together(layers)
    assert isinstance(at_once, PackedTogether) == (frozen and not bias)
    for x in (torch.randn(5, 24), torch.randn(0, 24)):
        for made, layer in zip(at_once(x), layers, strict=True):
            torch.testing.assert_close(made, torch.nn.functional.linear(x, layer.weight, layer.bias))
