"""Learning rates by hand."""

from typing import Any, Literal

import pytest

from xpo_ray.preparation import schedule_of
from xpo_ray.rates import learning_rate, scheduled
from xpo_ray.spec.loading import parse_spec
from xpo_ray.spec.run import RunSpec


def rates(kind: Literal["cosine", "linear", "constant"], warmup: float, steps: int) -> list[float]:
    return [scheduled(kind, 1.0, warmup, step, steps) for step in range(1, steps + 1)]


def spec_of(
    algorithm: dict[str, Any], rate: Any = 1.0, schedule: str = "linear", partitions: int | None = 3
) -> RunSpec:
    return parse_spec(
        {
            "seed": 0,
            "model": {"path": "/m"},
            "data": {"source": {"kind": "files", "path": "/d"}, "partitions": partitions},
            "algorithm": algorithm,
            "judge": {"kind": "python", "function": "a:b"},
            "training": {"learning_rate": rate, "batch_size": 2, "schedule": schedule, "warmup_ratio": 0.0},
            "output": {"path": "/o"},
        }
    )


def walked(spec: RunSpec, prompts: int = 12) -> list[list[float]]:
    """The rates of all steps, iteration by iteration."""
    plan = schedule_of(spec, prompts)
    return [
        [learning_rate(spec, plan, t, step) for step in range(1, plan.steps(t) + 1)]
        for t in range(1, plan.partitions + 1)
    ]


def test_the_rate_rises_to_its_peak_and_falls_on_a_line() -> None:
    assert rates("linear", 0.4, 5) == pytest.approx([0.5, 1.0, 1.0, 2 / 3, 1 / 3])


def test_the_rate_rises_to_its_peak_and_falls_on_a_cosine() -> None:
    assert rates("cosine", 0.25, 4) == pytest.approx([1.0, 1.0, 0.75, 0.25])


def test_a_constant_rate_stays_after_the_warm_up() -> None:
    assert rates("constant", 0.5, 4) == pytest.approx([0.5, 1.0, 1.0, 1.0])


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("steps", [1, 2, 3, 17])
def test_no_step_is_without_effect_and_none_is_above_the_peak(
    kind: Literal["cosine", "linear", "constant"], warmup: float, steps: int
) -> None:
    values = rates(kind, warmup, steps)
    assert all(0.0 < v <= 1.0 for v in values)
    assert max(values) == pytest.approx(1.0)


def test_an_iterative_run_begins_its_schedule_anew_in_each_iteration() -> None:
    assert walked(spec_of({"kind": "selm"})) == [pytest.approx([1.0, 0.5])] * 3


def test_an_online_run_has_one_schedule_over_all_iterations() -> None:
    flat = [r for rs in walked(spec_of({"kind": "xpo"}, partitions=None)) for r in rs]
    assert flat == pytest.approx([(6 - k) / 6 for k in range(6)])


def test_a_schedule_over_the_run_goes_on_across_partitions_of_several_steps() -> None:
    flat = [r for rs in walked(spec_of({"kind": "online_dpo"})) for r in rs]
    assert flat == pytest.approx([(6 - k) / 6 for k in range(6)])


def test_the_schedule_of_a_run_begins_after_its_warm_up_iterations() -> None:
    spec = spec_of({"kind": "online_dpo", "warmup_iterations": 1})
    assert walked(spec) == [pytest.approx(v) for v in ([1.0, 0.5], [1.0, 0.75], [0.5, 0.25])]


def test_each_iteration_may_have_a_peak_of_its_own() -> None:
    spec = spec_of({"kind": "iterative_dpo"}, rate=[0.4, 0.2, 0.1], schedule="constant")
    assert walked(spec) == [[0.4, 0.4], [0.2, 0.2], [0.1, 0.1]]
