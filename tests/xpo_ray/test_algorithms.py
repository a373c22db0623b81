"""Every algorithm's row of parts, against the table of the design."""

from typing import Any

import pytest
from pydantic import TypeAdapter

from xpo_ray.algorithms import (
    Draw,
    Row,
    algorithm_row,
    misfits,
    reference_version,
    resets_optimizer,
    row_of_iteration,
    rows,
)
from xpo_ray.spec.algorithm import AlgorithmSpec, DpoObjective, IpoObjective
from xpo_ray.spec.loading import parse_spec

ADAPTER: TypeAdapter[Any] = TypeAdapter(AlgorithmSpec)
REFERENCE, POLICY = Draw("reference"), Draw("policy")


def spec_of(kind: str, **settings: Any) -> Any:
    return ADAPTER.validate_python({"kind": kind, **settings})


def row_of(kind: str, **settings: Any) -> Row:
    return algorithm_row(spec_of(kind, **settings))


def row(**parts: Any) -> Row:
    """Parts that differ from online DPO's."""
    usual: dict[str, Any] = {
        "draws": (Draw("policy", 2),),
        "dataset_candidates": False,
        "pairing": "best_worst",
        "ties": "mask",
        "reference": "fixed",
        "data": "fresh",
        "beta": 0.1,
        "objective": DpoObjective(),
        "comparator": "none",
        "kappa": 0.0,
        "optimizer": "carry",
        "schedule_span": "run",
    }
    return Row(**usual | parts)


OFFLINE = {"draws": (), "dataset_candidates": True, "pairing": "given"}
ITERATIVE = {
    "draws": (REFERENCE,),
    "dataset_candidates": True,
    "reference": "previous",
    "optimizer": "reset",
    "schedule_span": "iteration",
}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("selm", row(**ITERATIVE, comparator="reference_draw", kappa=0.001 * 0.1)),
        ("iterative_dpo", row(**ITERATIVE)),
        ("xpo", row(draws=(POLICY, REFERENCE), comparator="reference_draw", kappa=1e-5)),
        ("online_dpo", row()),
        ("dpo", row(**OFFLINE)),
        ("sdpo", row(**OFFLINE, reference="previous", optimizer="reset", schedule_span="iteration")),
    ],
)
def test_an_algorithm_stands_for_its_row_of_the_design(kind: str, expected: Row) -> None:
    assert row_of(kind) == expected


@pytest.mark.parametrize("kind", ["selm", "iterative_dpo", "xpo", "online_dpo", "dpo", "sdpo"])
def test_what_the_user_sets_for_every_algorithm_reaches_its_row(kind: str) -> None:
    made = row_of(kind, beta=0.5, ties="drop", objective={"kind": "ipo"})
    assert (made.beta, made.ties, made.objective) == (0.5, "drop", IpoObjective(kind="ipo"))


def test_kappa_of_selm_is_alpha_times_beta_or_alpha_where_the_user_says_so() -> None:
    assert row_of("selm", alpha=0.002, beta=0.01).kappa == pytest.approx(2e-5)
    assert row_of("selm", alpha=0.002, beta=0.01, bonus_scale="alpha").kappa == 0.002


def test_kappa_of_selm_may_have_a_value_for_each_iteration() -> None:
    assert row_of("selm", alpha=[0.01, 0.002, 0.0], beta=0.1).kappa == pytest.approx((0.001, 0.0002, 0.0))


def test_beta_may_have_a_value_for_each_iteration_and_kappa_of_selm_follows_it() -> None:
    spec = spec_of("selm", alpha=0.01, beta=[0.5, 0.1, 0.05])
    assert [row_of_iteration(spec, t).beta for t in (1, 2, 3)] == [0.5, 0.1, 0.05]
    assert row_of_iteration(spec, 2).kappa == pytest.approx((0.005, 0.001, 0.0005))
    both = spec_of("selm", alpha=[0.1, 0.2, 0.3], beta=[0.5, 0.1, 0.05])
    assert row_of_iteration(both, 1).kappa == pytest.approx((0.05, 0.02, 0.015))


def test_a_warm_up_has_the_first_values_of_beta() -> None:
    spec = spec_of("iterative_dpo", warmup_iterations=2, beta=[0.4, 0.3, 0.2])
    assert [(row_of_iteration(spec, t).pairing, row_of_iteration(spec, t).beta) for t in (1, 2, 3)] == [
        ("given", 0.4),
        ("given", 0.3),
        ("best_worst", 0.2),
    ]


def test_kappa_of_xpo_is_alpha_itself() -> None:
    assert row_of("xpo", alpha=1e-5, beta=0.01).kappa == 1e-5
    assert row_of("xpo", alpha=[1e-5, 5e-6, 0.0]).kappa == (1e-5, 5e-6, 0.0)


@pytest.mark.parametrize("kind", ["selm", "iterative_dpo"])
def test_the_reference_draws_greedily_where_the_user_says_so(kind: str) -> None:
    assert row_of(kind, decoding="greedy").draws == (Draw("reference", decoding="greedy"),)


def test_xpo_may_accumulate_and_put_the_bonus_elsewhere() -> None:
    made = row_of("xpo", data="accumulate", comparator="both")
    assert (made.data, made.comparator, made.reference) == ("accumulate", "both", "fixed")


def test_online_dpo_draws_k_times_and_pairs_as_asked() -> None:
    made = row_of("online_dpo", draws=5, pairing="max_margin")
    assert (made.draws, made.pairing) == ((Draw("policy", 5),), "max_margin")


def test_a_custom_row_holds_what_the_user_wrote() -> None:
    made = row_of(
        "custom",
        draws=[{"source": "policy", "samples": 3}, {"source": "reference", "decoding": "greedy"}],
        dataset_candidates=True,
        pairing="best_random",
        reference="ema",
        ema_decay=0.9,
        comparator="both",
        kappa=[0.1, 0.2],
        optimizer="carry",
        schedule_span="run",
        ties="first",
        beta=0.3,
    )
    assert made == row(
        draws=(Draw("policy", 3), Draw("reference", 1, "greedy")),
        dataset_candidates=True,
        pairing="best_random",
        ties="first",
        reference="ema",
        beta=0.3,
        comparator="both",
        kappa=(0.1, 0.2),
        ema_decay=0.9,
    )


def test_a_given_pair_needs_no_judge_but_a_dataset_with_pairs() -> None:
    made = row_of("custom", pairing="given")
    assert (made.dataset_candidates, made.judged, made.needs_pairs) == (True, False, True)
    assert (row_of("dpo").judged, row_of("dpo").needs_pairs) == (False, True)


def test_rows_that_draw_are_judged_and_read_pairs_only_where_these_are_candidates() -> None:
    needs = {kind: (row_of(kind).judged, row_of(kind).needs_pairs) for kind in ("selm", "xpo", "online_dpo")}
    assert needs == {"selm": (True, True), "xpo": (True, False), "online_dpo": (True, False)}


def test_the_warm_up_comes_first_and_then_the_algorithm() -> None:
    spec = spec_of("selm", warmup_iterations=2)
    assert [row_of_iteration(spec, t).pairing for t in (1, 2, 3, 4)] == ["given", "given", "best_worst", "best_worst"]
    assert row_of_iteration(spec, 3) == algorithm_row(spec)


def test_without_a_warm_up_every_iteration_has_the_algorithms_row() -> None:
    assert row_of_iteration(spec_of("xpo"), 1) == row_of("xpo")


@pytest.mark.parametrize(
    ("warmup_kind", "expected"),
    [
        ("dpo", row(**OFFLINE, beta=0.05, optimizer="reset", schedule_span="iteration")),
        ("sdpo", row(**OFFLINE, beta=0.05, reference="previous", optimizer="reset", schedule_span="iteration")),
        ("iterative_dpo", row(**ITERATIVE, beta=0.05)),
    ],
)
def test_each_warm_up_begins_its_optimizer_and_schedule_anew_and_keeps_beta(warmup_kind: str, expected: Row) -> None:
    spec = spec_of("selm", beta=0.05, warmup_iterations=1, warmup_kind=warmup_kind)
    assert row_of_iteration(spec, 1) == expected


def test_a_run_uses_the_rows_of_its_warm_up_and_its_own() -> None:
    raw: dict[str, Any] = {
        "seed": 0,
        "model": {"path": "/m"},
        "data": {"source": {"kind": "files", "path": "/d"}, "partitions": 3},
        "algorithm": {"kind": "selm"},
        "judge": {"kind": "python", "function": "a:b"},
        "output": {"path": "/o"},
    }
    assert [r.pairing for r in rows(parse_spec(raw))] == ["best_worst"]
    raw["algorithm"]["warmup_iterations"] = 1
    assert [r.pairing for r in rows(parse_spec(raw))] == ["given", "best_worst"]


@pytest.mark.parametrize("kind", ["xpo", "online_dpo", "dpo"])
def test_a_fixed_reference_is_the_model_that_the_row_started_from(kind: str) -> None:
    assert [reference_version(row_of(kind), t, 0) for t in (1, 2, 5)] == [0, 0, 0]
    assert [reference_version(row_of(kind), t, 2) for t in (1, 2, 3, 5)] == [0, 0, 2, 2]


@pytest.mark.parametrize("kind", ["selm", "iterative_dpo", "sdpo"])
def test_the_previous_iterate_is_the_reference_with_and_without_a_warm_up(kind: str) -> None:
    assert [reference_version(row_of(kind), t, w) for t in (1, 2, 4) for w in (0, 1)] == [0, 0, 1, 1, 3, 3]


def test_an_average_goes_up_to_the_previous_iterate() -> None:
    assert reference_version(row(reference="ema"), 4, 0) == 3


@pytest.mark.parametrize("kind", ["selm", "iterative_dpo", "xpo", "online_dpo", "dpo", "sdpo"])
def test_the_parts_of_the_named_algorithms_fit(kind: str) -> None:
    assert misfits(row_of(kind)) is None


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"draws": (POLICY,)}, "1 candidate for each prompt"),
        ({"draws": ()}, "0 candidate"),
        ({"comparator": "reference_draw", "kappa": 0.1}, "needs a draw of the reference"),
        ({"draws": (POLICY, POLICY), "comparator": "both", "kappa": 0.1}, "needs a draw of the reference"),
        ({"draws": (), **OFFLINE, "comparator": "both", "kappa": 0.1}, "needs a draw of the policy and the reference"),
        ({"kappa": 0.1}, "kappa is set but comparator is none"),
        ({"kappa": (0.0, 0.1)}, "kappa is set but comparator is none"),
        ({"reference": "previous", "data": "accumulate"}, "accumulate needs reference: fixed, got previous"),
        ({**OFFLINE, "objective": spec_of("dpo", objective={"kind": "sppo"}).objective}, "sppo needs judged"),
    ],
)
def test_parts_that_do_not_fit_are_named(parts: dict[str, Any], reason: str) -> None:
    assert reason in (misfits(row(**parts)) or "")


def test_a_kappa_of_zero_in_every_iteration_is_no_bonus() -> None:
    assert misfits(row(kappa=(0.0, 0.0))) is None


def test_behind_a_warm_up_the_optimizer_begins_anew_and_then_carries() -> None:
    warmed = spec_of("xpo", warmup_iterations=2)
    assert [resets_optimizer(warmed, t) for t in (1, 2, 3, 4, 5)] == [True, True, True, False, False]
    assert [resets_optimizer(spec_of("online_dpo"), t) for t in (1, 2)] == [True, False]
    assert [resets_optimizer(spec_of("selm"), t) for t in (1, 2)] == [True, True]
