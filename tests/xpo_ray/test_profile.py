"""Seconds of roles, by hand."""

import pytest

from xpo_ray.profile import DRIVER, Profile, RoleProfile, Span, Stopwatch, profile_of


def role(profile: Profile, name: str) -> RoleProfile:
    return next(r for r in profile.roles if r.role == name)


def test_a_process_waits_for_the_nearest_stage_before_its_next_work_that_somebody_worked_on() -> None:
    spans = [
        Span("policy/0", "draw", 1.0, 4.0, inside=2.5),
        Span("judge/0", "prefer", 5.0, 6.0, inside=1.0),
        Span("base/0", "score", 6.0, 8.0, inside=2.0),
        Span("trainer", "step", 9.0, 12.0, inside=3.0),
    ]
    profile = profile_of(spans, 0.0, 12.0)
    trainer = role(profile, "trainer")
    assert trainer.work == {"step": 3.0}
    assert trainer.waiting == {"reference log-probs": 2.0, "judge": 1.0, "draw": 3.0, DRIVER: 3.0}
    assert role(profile, "judge/0").waiting == {"draw": 3.0, DRIVER: 2.0, "the end of the run": 6.0}
    assert role(profile, "policy/0").hand_over == pytest.approx(0.5)


def test_an_engine_waits_for_the_trainer_before_it_takes_new_weights() -> None:
    spans = [
        Span("policy/0", "draw", 0.0, 1.0),
        Span("trainer", "step", 2.0, 5.0),
        Span("policy/0", "load", 5.5, 6.0),
        Span("policy/0", "draw", 6.0, 7.0),
    ]
    policy = role(profile_of(spans, 0.0, 7.0), "policy/0")
    assert policy.work == {"draw": 2.0, "take weights": 0.5}
    assert policy.waiting == {"step": 3.0, DRIVER: 1.5}


def test_all_seconds_of_a_process_are_accounted_for_even_where_calls_overlap() -> None:
    spans = [
        Span("policy/0", "draw", 0.5, 3.0),
        Span("policy/0", "score", 2.0, 4.0),
        Span("judge/0", "prefer", 1.0, 1.5),
        Span("judge/0", "prefer", 1.5, 2.25),
    ]
    for each in profile_of(spans, 0.0, 5.0).roles:
        assert each.busy + sum(each.waiting.values()) == pytest.approx(5.0)


def test_a_stopwatch_that_nobody_asked_for_keeps_nothing() -> None:
    watch = Stopwatch()
    watch.note("trainer", "step", 0.0, None)
    assert watch.spans is None
    assert watch.profile() is None
