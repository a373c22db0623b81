"""A trainer asleep, on a device that is only pretended: PyTorch's fake tensors know where they lie and hold no numbers."""

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from xpo_ray.offload import CPU, Offload

GPU = torch.device("cuda", 0)


def lies_on(model: nn.Module, optimizer: torch.optim.Optimizer) -> set[torch.device]:
    """Where all of it lies."""
    state = [value for values in optimizer.state.values() for value in values.values()]
    return {tensor.device for tensor in (*model.parameters(), *model.buffers(), *state)}


def stepped(device: torch.device) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A model with a buffer, after a step."""
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return model, optimizer


def test_asleep_all_of_a_trainer_lies_on_the_cpu_and_awake_where_it_was_made() -> None:
    with FakeTensorMode():
        model, optimizer = stepped(GPU)
        before = list(model.parameters())
        offload = Offload(GPU)
        assert lies_on(model, optimizer) == {GPU}
        offload.wake(model, optimizer)
        assert lies_on(model, optimizer) == {GPU}
        for _ in range(2):
            offload.sleep(model, optimizer)
            offload.sleep(model, optimizer)
            assert lies_on(model, optimizer) == {CPU}
            offload.wake(model, optimizer)
            assert lies_on(model, optimizer) == {GPU}
        assert all(a is b for a, b in zip(before, model.parameters(), strict=True))
        assert all(p in optimizer.state for p in model.parameters())


def test_on_a_cpu_nothing_moves() -> None:
    model, optimizer = stepped(CPU)
    before = [*model.parameters(), *(v for s in optimizer.state.values() for v in s.values())]
    offload = Offload(CPU)
    offload.sleep(model, optimizer)
    offload.wake(model, optimizer)
    after = [*model.parameters(), *(v for s in optimizer.state.values() for v in s.values())]
    assert all(a is b for a, b in zip(before, after, strict=True))
