"""The device of a process, and whether everything that meets weights lies where they lie: on a device that is not the CPU."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests import tables
from tests.pretended import ELSEWHERE, Elsewhere, Mixed, elsewhere
from tests.xpo_ray.logprobs.models import make
from tests.xpo_ray.test_policy import CANARY, CANDIDATES, loaded, policy
from tests.xpo_ray.test_training import MIXED, RATE, SPEC, order, shard, whole
from xpo_ray.algorithms import Draw
from xpo_ray.checkpoints import load_model, put_weights, weights_of
from xpo_ray.devices import CPU, computing_dtype, computing_on, own_device
from xpo_ray.generation.engine import DrawContext, Sampling
from xpo_ray.generation.transformers import TransformersEngine
from xpo_ray.logprobs import PromptGroup, choose, plain, shared
from xpo_ray.spec.data import LoraSpec, ModelSpec
from xpo_ray.training import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")

UNEVEN = [PromptGroup([3, 4, 5, 6, 7], ([10, 11, 1], [12, 1], [10, 11, 1])), PromptGroup([20], ([21, 22, 23, 1], [30]))]
LORA = LoraSpec(rank=2, alpha=4.0)


def test_a_process_computes_on_the_first_gpu_that_torch_sees_else_on_the_cpu() -> None:
    assert own_device() == (torch.device("cuda", 0) if torch.cuda.is_available() else CPU)
    with computing_on("meta") as device:
        assert own_device() == device == torch.device("meta")
    assert own_device() != device
    with computing_on("cuda") as device:
        assert device == torch.device("cuda", 0)


def test_the_type_of_a_product_is_that_of_autocast_where_it_is_on() -> None:
    assert computing_dtype(torch.ones(1)) == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert computing_dtype(torch.ones(1)) == torch.bfloat16


def test_the_pretended_device_tells_mixed_tensors_and_computes_as_the_cpu() -> None:
    torch.manual_seed(0)
    layer, rows = nn.Linear(3, 2), torch.randn(4, 3)
    expected = layer(rows).tolist()
    with elsewhere() as device:
        moved = layer.to(device)
        assert moved.weight.device == ELSEWHERE
        assert moved(rows.to(device)).tolist() == expected
        assert type(moved(rows.to(device)).cpu()) is torch.Tensor
        with pytest.raises(Mixed, match="lie on the CPU"):
            moved(rows)
        with pytest.raises(Mixed):
            torch.zeros(4, device=device) + torch.arange(4)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2"])
@pytest.mark.parametrize(
    "sampling", [Sampling(0.0, 1.0, None, 5), Sampling(0.8, 0.9, 20, 6, min_new_tokens=2)], ids=["greedy", "sampled"]
)
def test_draws_are_those_of_the_cpu(kind: str, sampling: Sampling) -> None:
    prompts, seeds = [[3, 4, 5], [7], [8, 9], [3, 4, 5]], [1, 2, 3, 4]
    expected = TransformersEngine(make(kind), [1, 2]).draw(prompts, seeds, sampling)
    with elsewhere() as device:
        assert TransformersEngine(make(kind).to(device), [1, 2]).draw(prompts, seeds, sampling) == expected


@pytest.mark.parametrize("path", [shared, plain], ids=["shared", "plain"])
def test_log_probs_and_gradients_are_those_of_the_cpu(path: Any) -> None:
    def computed(model: Any) -> tuple[list[float], list[float]]:
        choose(model)
        out = path(model, UNEVEN, entropy=True)
        torch.autograd.backward(out.logp_S.sum())
        return [*out.logp_S.tolist(), *out.entropy_S.tolist()], [float(p.grad.sum()) for p in model.parameters()]

    values, gradients = computed(make("llama"))
    with elsewhere() as device:
        found, slopes = computed(make("llama").to(device))
    assert found == pytest.approx(values, abs=1e-5)
    assert slopes == pytest.approx(gradients, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("lora", [None, LORA], ids=["all weights", "adapter"])
def test_a_training_step_is_that_of_the_cpu_and_weights_come_out_on_the_cpu(
    model_folder: Path, lora: LoraSpec | None
) -> None:
    table = shard(MIXED, model_folder)
    origin = ModelSpec(path=str(model_folder), lora=lora)

    def stepped() -> tuple[Trainer, dict[str, float]]:
        one = Trainer(SPEC, str(model_folder), "float32", origin=origin)
        trained = [p for p in one.model.parameters() if p.requires_grad]
        one.optimizer = torch.optim.AdamW(trained, lr=0.0, eps=SPEC.adam_epsilon)  # the fused one knows devices by name
        return one, one.step(order(whole(table), rate=RATE), [table]).metrics

    one, expected = stepped()
    with elsewhere():
        other, found = stepped()
        assert all(isinstance(p, Elsewhere) for p in other.model.parameters())
        canary, weights = other.canary(CANARY), other.weights()
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert canary == pytest.approx(one.canary(CANARY), abs=1e-5)
    assert {type(tensor) for tensor in weights.values()} == {torch.Tensor}
    for name, tensor in one.weights().items():
        torch.testing.assert_close(weights[name], tensor, atol=1e-5, rtol=0.0)


def draw(of: Any, version: int) -> list[list[dict[str, Any]]]:
    work = [(tables.prompts([[30, 31], [32]]), DrawContext(0, "policy-0", 1, version))]
    drawn: list[list[dict[str, Any]]] = of.draw(work, Draw("policy"), Sampling(1.0, 0.9, None, 6))
    return drawn


def test_a_policy_draws_scores_sleeps_and_takes_weights_on_its_device(model_folder: Path) -> None:
    pairs = tables.preferences([[9, 8]], [CANDIDATES], [tables.pair(0, 1, 0)])
    here = loaded(model_folder)
    weights = {name: tensor + 0.01 for name, tensor in weights_of(load_model(model_folder, "float32")).items()}
    drawn = draw(here, 0)
    with elsewhere():
        there = loaded(model_folder)
        assert there.scorer.device == ELSEWHERE
        scored, canary = there.score(pairs, 0), there.canary(CANARY)
        there.sleep()
        assert there.scorer.device == there.engine.model.device == CPU
        assert draw(there, 0) == drawn
        assert there.scorer.device == ELSEWHERE
        there.sleep()
        there.take(weights, 1)
        redrawn = draw(there, 1)
    assert canary == pytest.approx(here.canary(CANARY), abs=1e-5)
    expected = here.score(pairs, 0)["reference_logps"].to_pylist()
    assert scored["reference_logps"].to_pylist()[0] == pytest.approx(expected[0], abs=1e-4)
    here.take(weights, 1)
    assert redrawn == draw(here, 1)


def test_the_next_version_takes_the_place_of_the_one_on_the_device(model_folder: Path, tmp_path: Path) -> None:
    other = load_model(model_folder, "float32")
    put_weights(other, {name: tensor + 0.01 for name, tensor in weights_of(other).items()})
    other.save_pretrained(tmp_path)
    here = loaded(model_folder)
    here.load(tmp_path, 1)
    with elsewhere():
        there = loaded(model_folder)
        held = there.scorer
        there.sleep()
        there.load(tmp_path, 1)
        redrawn, logps = draw(there, 1), there.logps(UNEVEN, 1)
    assert (there.scorer is held, held.device) == (True, ELSEWHERE)
    assert redrawn == draw(here, 1)
    assert logps[0] == pytest.approx(here.logps(UNEVEN, 1)[0], abs=1e-4)


def test_averages_and_adapters_lie_on_the_device(model_folder: Path) -> None:
    base = loaded(model_folder).logps(UNEVEN, 0)
    with elsewhere():
        mean = policy(model_folder)
        mean.load_average([model_folder, model_folder], 0.5, 2)
        adapted = policy(model_folder, lora={"rank": 2})
        adapted.load(model_folder, 0)
        for one, version in ((mean, 2), (adapted, 0)):
            assert all(isinstance(p, Elsewhere) for p in one.scorer.parameters())
            logps = [logp for each in one.logps(UNEVEN, version) for logp in each]
            assert logps == pytest.approx([logp for each in base for logp in each], abs=1e-4)
            assert len(draw(one, version)) == 2


def lies_on(trainer: Trainer) -> set[torch.device]:
    """Where the weights and the optimizer's state lie."""
    state = [value for values in trainer.optimizer.state.values() for value in values.values()]
    return {tensor.device for tensor in (*trainer.model.parameters(), *trainer.model.buffers(), *state)}


@pytest.mark.parametrize("lora", [None, LORA], ids=["all weights", "adapter"])
def test_a_trainer_that_sleeps_between_steps_leaves_the_device_and_goes_on_the_same(
    model_folder: Path, lora: LoraSpec | None
) -> None:
    table = shard(MIXED, model_folder)

    def losses(*, sleeps: bool) -> list[float]:
        one = Trainer(SPEC, str(model_folder), "float32", origin=ModelSpec(path=str(model_folder), lora=lora))
        found = []
        for number in (1, 2, 3, 4):
            if number in (1, 3):  # the fused one knows devices by name
                trained = [p for p in one.model.parameters() if p.requires_grad]
                one.optimizer = torch.optim.AdamW(trained, lr=0.0, eps=SPEC.adam_epsilon)
            one.wake()
            assert ELSEWHERE in lies_on(one)
            found.append(one.step(order(whole(table, number), rate=RATE), [table]).metrics["loss"])
            for _ in range(2 * sleeps):
                one.sleep()
                assert lies_on(one) == {CPU}
        return found

    with elsewhere():
        expected = losses(sleeps=False)
        # parameters stay what they are, as those of a GPU do
        torch.__future__.set_swap_module_params_on_conversion(True)
        try:
            assert losses(sleeps=True) == expected
        finally:
            torch.__future__.set_swap_module_params_on_conversion(False)
