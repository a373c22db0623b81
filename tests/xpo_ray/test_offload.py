"""A trainer that wakes while others are still leaving its device."""

from typing import Any

import pytest
import torch
from torch import nn

from xpo_ray import offload
from xpo_ray.offload import Offload

HOME = torch.device("cpu", 0)
"""A CPU by another name, so that everything is laid down and taken up as on a GPU."""


class Crowded(nn.Linear):
    """For whose weights there is no room the first few times."""

    full = 2

    def to(self, device: Any) -> "Crowded":  # type: ignore[override]
        if device == HOME and self.full:
            self.full -= 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().to(device)


def stepped() -> tuple[Crowded, torch.optim.AdamW]:
    model = Crowded(2, 1)
    optimizer = torch.optim.AdamW(model.parameters())
    torch.autograd.backward(model(torch.ones(1, 2)).sum())
    optimizer.step()
    optimizer.zero_grad()
    return model, optimizer


def test_who_wakes_waits_until_there_is_room_and_finds_all_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offload, "WAIT_S", 0.0)
    model, optimizer = stepped()
    weights, moments = list(model.parameters()), [dict(state) for state in optimizer.state.values()]
    one = Offload(HOME)
    one.sleep(model, optimizer)
    one.wake(model, optimizer)
    assert model.full == 0
    assert all(a is b for a, b in zip(model.parameters(), weights, strict=True))
    for found, expected in zip(optimizer.state.values(), moments, strict=True):
        assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_who_never_finds_room_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offload, "WAIT_S", 0.0)
    model, optimizer = stepped()
    model.full = offload.TRIES
    one = Offload(HOME)
    one.sleep(model, optimizer)
    with pytest.raises(torch.OutOfMemoryError):
        one.wake(model, optimizer)
