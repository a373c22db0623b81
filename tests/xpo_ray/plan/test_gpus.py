"""Which process gets which GPU: both layouts on 0, 1, 2 and 8 GPUs by hand, explicit numbers, and what is refused."""

from typing import Any

import pytest

from xpo_ray.errors import SpecError
from xpo_ray.plan.gpus import GpuPlan, gpu_plan
from xpo_ray.plan.processes import engine_replicas, judge_replicas, pool_sizes, trainer_workers
from xpo_ray.spec import RunSpec

PAIRRM = {"kind": "pairrm", "path": "llm-blender/PairRM-hf"}
FUNCTION = {"kind": "python", "function": "rewards:score"}


def spec(judge: dict[str, Any] = PAIRRM, *, evaluated: bool = True, kind: str = "selm", **resources: Any) -> RunSpec:
    """SELM with PairRM, evaluated: policy, a base for evaluation alone, trainer, judge."""
    evaluation = {"evaluation": {"kind": "files", "path": "test.parquet"}} if evaluated else {}
    return RunSpec.model_validate(
        {
            "model": {"path": "org/model"},
            "data": {"source": {"kind": "files", "path": "train.parquet"}, "partitions": 3} | evaluation,
            "algorithm": {"kind": kind},
            "sampling": {"engine": "vllm"},
            "judge": judge,
            "resources": resources,
            "output": {"path": "out"},
        }
    )


def placed(plan: GpuPlan) -> dict[str, tuple[float, tuple[int, ...]]]:
    return {share.role: (share.gpus_each, share.bundles) for share in plan.shares}


TURNS = {"layout": "colocated"}


@pytest.mark.parametrize(
    ("gpus", "resources", "bundles", "shares"),
    [
        (0, {}, (), {}),
        (0, TURNS | {"trainer_workers": 8, "engine_replicas": 8}, (), {}),
        (1, {}, (1,), {"trainer": (0.25, (0,)), "policy": (0.25, (0,)), "base": (0.25, (0,)), "judge": (0.25, (0,))}),
        (
            1,
            TURNS,
            (1,),
            {"trainer": (0.25, (0,)), "policy": (0.25, (0,)), "base": (0.25, (0,)), "judge": (0.25, (0,))},
        ),
        (
            2,
            {},
            (1, 1),
            {"trainer": (1.0, (1,)), "policy": (0.3333, (0,)), "base": (0.3333, (0,)), "judge": (0.3333, (0,))},
        ),
        (
            2,
            TURNS,
            (1, 1),
            {"trainer": (0.25, (0, 1)), "policy": (0.25, (0, 1)), "base": (0.25, (0,)), "judge": (0.25, (1, 0))},
        ),
        (
            8,
            {},
            (1,) * 8,
            {"trainer": (1.0, (4, 5, 6, 7)), "policy": (1.0, (0, 1)), "base": (1.0, (2,)), "judge": (1.0, (3,))},
        ),
        (
            8,
            {"trainer_workers": 1, "engine_tensor_parallel": 2},
            (1, 1, 2, 2, 2),
            {"trainer": (1.0, (1,)), "policy": (2.0, (2, 3)), "base": (2.0, (4,)), "judge": (1.0, (0,))},
        ),
        (
            2,
            {"judge_gpus": 0.1, "engine_gpus": 0.45},
            (1, 1),
            {"trainer": (1.0, (1,)), "policy": (0.45, (0,)), "base": (0.45, (0,)), "judge": (0.1, (0,))},
        ),
        (
            2,
            TURNS | {"judge_gpus": 0.1, "trainer_worker_resources": {"GPU": 0.5}},
            (1, 1),  # the fuller one has 1 - 0.1 - 0.5 for two engines
            {"trainer": (0.5, (0, 1)), "policy": (0.2, (0, 1)), "base": (0.2, (0,)), "judge": (0.1, (1, 0))},
        ),
        (
            4,
            {"gpus": 2, "judge_gpus": 0},
            (1, 1),
            {"trainer": (1.0, (1,)), "policy": (0.5, (0,)), "base": (0.5, (0,))},
        ),
        (4, {"trainer_worker_resources": {"GPU": 0}, "engine_gpus": 0}, (1,), {"judge": (1.0, (0,))}),
        (8, {"gpus": 0}, (), {}),
    ],
)
def test_every_process_has_its_gpu(
    gpus: int, resources: dict[str, Any], bundles: tuple[int, ...], shares: dict[str, tuple[float, tuple[int, ...]]]
) -> None:
    plan = gpu_plan(spec(**resources), gpus)
    assert (plan.bundles, placed(plan)) == (bundles, shares)
    assert plan.gpus == sum(bundles) <= gpus


@pytest.mark.parametrize("layout", ["dedicated", "colocated"])
@pytest.mark.parametrize("kind", ["selm", "xpo", "dpo"])
@pytest.mark.parametrize("gpus", range(1, 17))
def test_no_gpu_is_given_away_twice_and_processes_are_those_of_the_pools(layout: str, kind: str, gpus: int) -> None:
    made = spec(layout=layout, kind=kind)
    plan = gpu_plan(made, gpus)
    for bundle, size in enumerate(plan.bundles):
        assert size == 1
        taken = sum(s.gpus_each * s.bundles.count(bundle) for s in plan.shares)
        assert 0 < taken <= 1 + 1e-9
        assert len(plan.within(bundle)) == sum(s.bundles.count(bundle) for s in plan.shares)
    sizes = {role: n for role, n in pool_sizes(made, 2, gpus).items() if n}
    sizes |= {"trainer": trainer_workers(made, gpus), "judge": judge_replicas(made, 2, gpus)}
    assert {s.role: len(s.bundles) for s in plan.shares} == sizes
    trainer = plan.share("trainer")
    assert trainer is not None
    assert len(set(trainer.bundles)) == trainer.processes


def test_the_recipes_eight_of_each_role_take_turns_on_eight_gpus() -> None:
    recipe = spec(**TURNS, engine_replicas=8, judge_replicas=8, trainer_workers=8, evaluated=False)
    shares = gpu_plan(recipe, 8).shares
    assert [(s.role, s.processes, s.gpus_each) for s in shares] == [
        ("trainer", 8, 0.3333),
        ("policy", 8, 0.3333),
        ("judge", 8, 0.3333),
    ]
    assert all(s.bundles == tuple(range(8)) for s in shares)


def test_without_gpus_processes_go_by_cores_and_a_function_takes_a_gpu_only_where_the_spec_says_so() -> None:
    made = spec()
    assert (engine_replicas(made, 4), judge_replicas(made, 4)) == (1, 4)
    assert gpu_plan(spec(FUNCTION), 2).share("judge") is None
    share = gpu_plan(spec(FUNCTION, judge_gpus=0.5), 2).share("judge")
    assert share is not None
    assert share.gpus_each == 0.5


@pytest.mark.parametrize(
    ("gpus", "resources", "told"),
    [
        (2, {"gpus": 3}, "resources.gpus is 3, there are 2; lower it"),
        (
            2,
            {"trainer_workers": 4},
            "asks for 5 GPUs and may take 2: trainer 4 × 1; policy, base, judge at least 1 together. Lower "
            r"resources.trainer_workers; or let all roles take turns on the same GPUs \(resources.layout: colocated\)",
        ),
        (
            4,
            {"engine_tensor_parallel": 2, "engine_replicas": 2},
            "asks for 9 GPUs and may take 4: trainer 2 × 1; policy 2 × 2; base 1 × 2; judge at least 1 together. Lower "
            "resources.engine_replicas, resources.engine_tensor_parallel",
        ),
        (
            1,
            {**TURNS, "trainer_workers": 2},
            "resources.trainer_workers: 2 workers on 1 GPU; workers that train together",
        ),
        (
            4,
            {**TURNS, "engine_tensor_parallel": 2},
            "shares each GPU among all roles, and the policy asks for whole ones: resources.engine_tensor_parallel 2;",
        ),
        (4, {**TURNS, "judge_gpus": 1}, "and the judge asks for whole ones: 1 for each process; set"),
        (
            4,
            {"engine_gpus": 1.5},
            "1.5 GPUs for each process of the policy; one takes a part of a GPU, below 1, or a whole",
        ),
        (
            4,
            {"engine_gpus": 1, "engine_tensor_parallel": 2},
            "engine_gpus is 1, and .* over 2 GPUs; leave engine_gpus out",
        ),
        (1, {"engine_gpus": 0.5, "judge_gpus": 0.2}, "policy 1 × 0.5, base 1 × 0.5, judge 1 × 0.2 do not fit on 1 GPU"),
        (1, {"engine_gpus": 0.5}, "trainer 1 × an equal part, policy 1 × 0.5, base 1 × 0.5.* do not fit on 1 GPU"),
        (0, {"judge_gpus": 0.2}, "resources.judge_gpus is 0.2, and the run has no GPU"),
        (
            0,
            {"trainer_worker_resources": {"GPU": 1}},
            "resources.trainer_worker_resources.GPU is 1, and the run has no GPU",
        ),
    ],
)
def test_what_cannot_be_had_is_refused_with_each_roles_share(gpus: int, resources: dict[str, Any], told: str) -> None:
    with pytest.raises(SpecError, match=told):
        gpu_plan(spec(**resources), gpus)


def test_the_transformers_engine_has_no_tensor_parallel() -> None:
    raw = spec(engine_tensor_parallel=2).model_dump(mode="json")
    raw["sampling"]["engine"] = "transformers"
    with pytest.raises(SpecError, match="only vLLM cuts a model over several GPUs; set sampling"):
        gpu_plan(RunSpec.model_validate(raw), 8)
