"""Ensembles and actors as they are named: what a shard may take, what does not fit together, what decides the result."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from xpo_ray.spec.base import decisive
from xpo_ray.spec.judge import JudgeSpec, single_judges

PYTHON = {"kind": "python", "function": "vowels:score", "timeout_s": 10.0, "retries": 2}
ACTOR = {"kind": "actor", "name": "mine", "timeout_s": 10.0, "retries": 2, "retry_after_s": 4.0, "patience_s": 100.0}
MEMBERS = [{"judge": PYTHON}, {"judge": {**PYTHON, "function": "vowels:other", "retries": 0}}]
ENSEMBLE = {"kind": "ensemble", "members": MEMBERS}
CHEAP = {**ENSEMBLE, "combine": "cheap_then_dear", "unsure_below": 0.5}


def judge_of(raw: dict[str, Any]) -> Any:
    return TypeAdapter[JudgeSpec](JudgeSpec).validate_python(raw)


@pytest.mark.parametrize(
    ("raw", "seconds"),
    [
        (ACTOR, (3 * 8 + 1) * 10.0 + 100.0),
        ({**ACTOR, "method": "judge", "batch_size": 3}, (3 * 3 + 8 + 1) * 10.0 + 100.0),
        ({**ACTOR, "retries": 0}, (8 + 1) * 10.0 + 100.0),
        (ENSEMBLE, 3 * 8 * 10.0 + 8 * 10.0),
        ({**ENSEMBLE, "members": [*MEMBERS, {"judge": {"kind": "reward_model", "path": "./r"}}]}, 320.0),
    ],
)
def test_an_ensemble_takes_the_time_of_all_and_an_actor_its_waits_too(raw: dict[str, Any], seconds: float) -> None:
    assert judge_of(raw).longest_s(8) == seconds


def test_waits_for_an_actor_double_and_end_at_half_a_minute() -> None:
    actor = judge_of(ACTOR)
    assert [actor.pause_s(n) for n in (0, 1, 2, 3, 5000)] == [4.0, 8.0, 16.0, 30.0, 30.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"members": MEMBERS[:1]}, "at least 2 items"),
        (
            {"members": [MEMBERS[0], {"judge": ENSEMBLE}]},
            "an ensemble may not hold an ensemble; list its members one by",
        ),
        ({"members": [MEMBERS[0], {"judge": PYTHON | {"tie_margin": 1.0}}]}, "no effect on a member; set them on the"),
        ({"members": [MEMBERS[0], {"judge": PYTHON | {"max_failed_fraction": 1.0}}]}, "set them on the ensemble"),
        ({"members": [MEMBERS[0], {"judge": PYTHON, "weight": 0.0}]}, "greater than 0"),
        ({"min_members": 3}, "min_members is 3, there are 2 members; lower it"),
        ({"unsure_below": 0.5}, "unsure_below needs `combine: cheap_then_dear`"),
        ({"combine": "cheap_then_dear"}, "cheap_then_dear needs unsure_below"),
        (CHEAP | {"members": [*MEMBERS, MEMBERS[0]]}, "needs two members without weights, the cheap one first; got 3"),
        (CHEAP | {"members": [MEMBERS[0], {"judge": PYTHON, "weight": 2.0}]}, "got 2 with weights 1, 2"),
        (CHEAP | {"min_members": 1}, "min_members has no effect with cheap_then_dear"),
    ],
)
def test_what_an_ensemble_cannot_be_is_refused_with_the_remedy(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        judge_of(ENSEMBLE | change)


def test_what_is_left_out_stays_what_it_was_when_the_resolved_spec_is_read_again() -> None:
    for raw in (ENSEMBLE, CHEAP, ACTOR):
        judge = judge_of(raw)
        assert judge_of(judge.model_dump(mode="json")) == judge


def test_weights_and_functions_of_members_decide_the_result_and_their_time_limits_do_not() -> None:
    def identity(**change: Any) -> Any:
        return decisive(judge_of(ENSEMBLE | {"members": [MEMBERS[0], {**MEMBERS[1], **change}]}))

    same = {"judge": {**PYTHON, "function": "vowels:other", "timeout_s": 99.0, "retries": 7, "cache_entries": 5}}
    assert identity(**same) == identity()
    assert identity(weight=2.0) != identity()
    assert identity(judge={**PYTHON, "function": "vowels:third"}) != identity()


def test_keeping_answers_is_no_part_of_what_decides_the_result() -> None:
    assert "cache_entries" not in decisive(judge_of(PYTHON))


def test_the_judges_that_do_the_work_are_named_by_their_fields() -> None:
    assert [place for place, _ in single_judges(judge_of(ENSEMBLE), "judge")] == [
        "judge.members.0.judge",
        "judge.members.1.judge",
    ]
    assert single_judges(judge_of(PYTHON), "evaluation.judge") == [("evaluation.judge", judge_of(PYTHON))]


@pytest.mark.parametrize("namespace", ["", "a/b", " a", "*/"])
def test_a_namespace_holds_no_slash_so_that_an_operators_pattern_means_one_thing(namespace: str) -> None:
    with pytest.raises(ValidationError, match="namespace"):
        judge_of(ACTOR | {"namespace": namespace})
