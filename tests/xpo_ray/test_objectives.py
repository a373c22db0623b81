"""Objectives against numbers worked out by hand and against a second implementation in plain `math`."""

import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor

from xpo_ray.errors import SpecError
from xpo_ray.objectives import (
    Pairs,
    WindowLoss,
    exploration_bonus,
    pair_metrics,
    preference_losses,
    window_loss,
)
from xpo_ray.spec.algorithm import (
    DiscopopObjective,
    DpoObjective,
    DpopObjective,
    HingeObjective,
    IpoObjective,
    LnDpoObjective,
    ObjectiveSpec,
    RpoSftObjective,
    SppoObjective,
)

DPO = DpoObjective()
SMOOTHED = DpoObjective(label_smoothing=0.1)
IPO = IpoObjective(kind="ipo")
IPO_MEAN = IpoObjective(kind="ipo_mean")
HINGE = HingeObjective(kind="hinge")
LN_DPO = LnDpoObjective(kind="ln_dpo")
DPOP = DpopObjective(kind="dpop")
RPO_SFT = RpoSftObjective(kind="rpo_sft")
DISCOPOP = DiscopopObjective(kind="discopop")
SPPO = SppoObjective(kind="sppo")
ALL = [DPO, SMOOTHED, IPO, IPO_MEAN, HINGE, LN_DPO, DPOP, RPO_SFT, DISCOPOP, SPPO]
NAMES = ["dpo", "dpo_smoothed", "ipo", "ipo_mean", "hinge", "ln_dpo", "dpop", "rpo_sft", "discopop", "sppo"]
every_objective = pytest.mark.parametrize("objective", ALL, ids=NAMES)

COLUMNS = [
    "logp_chosen",
    "logp_rejected",
    "reference_chosen",
    "reference_rejected",
    "tokens_chosen",
    "tokens_rejected",
    "label",
    "weight",
    "wins_chosen",
    "wins_rejected",
]
HAND = (-10.0, -9.0, -12.0, -8.0, 4.0, 5.0, 1.0, 1.0, 0.8, 0.3)
"""Δ_w = 2 over 4 tokens, Δ_l = −1 over 5 tokens, so z = 3 and 0.7 per token."""
FALLING = (-11.0, -14.0, -10.0, -8.0, 4.0, 5.0, 1.0, 1.0, 0.8, 0.3)
"""Δ_w = −1, Δ_l = −6, so z = 5: the margin grows while the chosen response loses."""


def make_pairs(*rows: tuple[float, ...], grad: bool = False) -> Pairs:
    columns = zip(COLUMNS, zip(*rows, strict=True), strict=True)
    pairs = Pairs(**{f"{name}_B": torch.tensor(values, dtype=torch.float64) for name, values in columns})
    if grad:
        pairs.logp_chosen_B.requires_grad_()
        pairs.logp_rejected_B.requires_grad_()
    return pairs


def random_row(rng: random.Random, label: float = 1.0, weight: float = 1.0) -> tuple[float, ...]:
    logps = [rng.uniform(-40, -5) for _ in range(2)]
    references = [logp + rng.gauss(0, 3) for logp in logps]
    tokens = [float(rng.randint(1, 20)) for _ in range(2)]
    return (*logps, *references, *tokens, label, weight, rng.random(), rng.random())


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def slow_loss(objective: ObjectiveSpec, beta: float, row: tuple[float, ...]) -> float:
    """One pair, hard label, straight from the formulas."""
    logp_w, logp_l, ref_w, ref_l, tokens_w, tokens_l, _, _, wins_w, wins_l = row
    delta_w, delta_l = logp_w - ref_w, logp_l - ref_l
    z = delta_w - delta_l
    mean = delta_w / tokens_w - delta_l / tokens_l
    m = sigmoid(beta * z / 0.05)
    losses: dict[str, Callable[[], float]] = {
        "dpo": lambda: -math.log(sigmoid(beta * z)),
        "dpo_smoothed": lambda: -0.9 * math.log(sigmoid(beta * z)) - 0.1 * math.log(sigmoid(-beta * z)),
        "ipo": lambda: (z - 1 / (2 * beta)) ** 2,
        "ipo_mean": lambda: (mean - 1 / (2 * beta)) ** 2,
        "hinge": lambda: max(0.0, 1 - beta * z),
        "ln_dpo": lambda: -math.log(sigmoid(beta * mean)),
        "dpop": lambda: -math.log(sigmoid(beta * (z - 50 * max(0.0, -delta_w)))),
        "rpo_sft": lambda: -math.log(sigmoid(beta * z)) - 0.005 * beta * logp_w,
        "discopop": lambda: (1 - m) * -math.log(sigmoid(beta * z)) + m * math.exp(-beta * z),
        "sppo": lambda: 0.5 * ((delta_w - (wins_w - 0.5) / beta) ** 2 + (delta_l - (wins_l - 0.5) / beta) ** 2),
    }
    return losses[NAMES[ALL.index(objective)]]()


def swap(row: tuple[float, ...]) -> tuple[float, ...]:
    w, loser, ref_w, ref_l, tokens_w, tokens_l, label, weight, wins_w, wins_l = row
    return (loser, w, ref_l, ref_w, tokens_l, tokens_w, 1 - label, weight, wins_l, wins_w)


def whole(
    objective: ObjectiveSpec, pairs: Pairs, logp_C: Tensor, pairs_total: int, comparators_total: int
) -> WindowLoss:
    return window_loss(
        objective, 0.1, 0.01, pairs, logp_C, pairs_total=pairs_total, comparators_total=comparators_total
    )


@pytest.mark.parametrize(
    ("objective", "row", "expected"),
    [
        (DPO, HAND, math.log(1 + math.exp(-0.3))),
        (SMOOTHED, HAND, 0.9 * math.log(1 + math.exp(-0.3)) + 0.1 * math.log(1 + math.exp(0.3))),
        (IPO, HAND, (3 - 5) ** 2),
        (IPO_MEAN, HAND, (0.7 - 5) ** 2),
        (HINGE, HAND, 0.7),
        (LN_DPO, HAND, math.log(1 + math.exp(-0.07))),
        (DPOP, HAND, math.log(1 + math.exp(-0.3))),
        (DPOP, FALLING, math.log(1 + math.exp(4.5))),
        (RPO_SFT, HAND, math.log(1 + math.exp(-0.3)) + 0.005 * 0.1 * 10),
        (DISCOPOP, HAND, 0.0024726 * 0.5543552 + 0.9975274 * 0.7408182),
        (SPPO, HAND, 0.5 * ((2 - 3) ** 2 + (-1 + 2) ** 2)),
    ],
)
def test_each_objective_gives_the_number_worked_out_by_hand(
    objective: ObjectiveSpec, row: tuple[float, ...], expected: float
) -> None:
    assert preference_losses(objective, 0.1, make_pairs(row)).item() == pytest.approx(expected, abs=1e-7)


@every_objective
@pytest.mark.parametrize("beta", [0.01, 0.1, 1.0])
def test_each_objective_equals_a_slow_implementation(objective: ObjectiveSpec, beta: float) -> None:
    rng = random.Random(1)
    rows = [random_row(rng) for _ in range(50)]
    expected = [slow_loss(objective, beta, row) for row in rows]
    torch.testing.assert_close(
        preference_losses(objective, beta, make_pairs(*rows)), torch.tensor(expected, dtype=torch.float64)
    )


@every_objective
def test_a_soft_label_gives_the_expected_loss_over_who_wins(objective: ObjectiveSpec) -> None:
    rng = random.Random(2)
    rows = [random_row(rng, label=p) for p in (0.0, 0.3, 0.5, 0.9, 1.0)]
    expected = [
        row[6] * slow_loss(objective, 0.1, row) + (1 - row[6]) * slow_loss(objective, 0.1, swap(row)) for row in rows
    ]
    torch.testing.assert_close(
        preference_losses(objective, 0.1, make_pairs(*rows)), torch.tensor(expected, dtype=torch.float64)
    )


@every_objective
def test_swapping_chosen_and_rejected_with_the_opposite_label_changes_nothing(objective: ObjectiveSpec) -> None:
    rng = random.Random(3)
    pairs = make_pairs(*[random_row(rng, label=rng.random()) for _ in range(20)])
    told_both_ways = [preference_losses(objective, 0.1, side) for side in (pairs, pairs.swapped())]
    torch.testing.assert_close(*told_both_ways, rtol=1e-12, atol=0)


def test_ipo_with_a_soft_label_has_its_minimum_at_the_margin_of_the_paper() -> None:
    """The target of the regression for P(chosen beats rejected) = p is z = (2p − 1)/(2β)."""
    z = torch.tensor([(2 * 0.8 - 1) / 0.2], dtype=torch.float64)
    pairs = replace(make_pairs((0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.8, 1.0, 0.5, 0.5)), logp_chosen_B=z.requires_grad_())
    torch.autograd.backward(preference_losses(IPO, 0.1, pairs).sum())
    assert z.grad is not None
    assert z.grad.item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("objective", [DPO, SMOOTHED, LN_DPO, DPOP], ids=["dpo", "dpo_smoothed", "ln_dpo", "dpop"])
def test_logistic_losses_are_log_2_where_policy_and_reference_agree(objective: ObjectiveSpec) -> None:
    pairs = make_pairs((-310.25, -17.5, -310.25, -17.5, 40.0, 3.0, 1.0, 1.0, 0.9, 0.1))
    assert preference_losses(objective, 0.1, pairs).item() == pytest.approx(math.log(2), abs=1e-15)


def test_the_gradient_of_dpo_is_the_closed_form() -> None:
    """∂/∂log π(y_w) = −β σ(−βz), and the opposite for y_l."""
    rng = random.Random(4)
    pairs = make_pairs(*[random_row(rng) for _ in range(10)], grad=True)
    torch.autograd.backward(preference_losses(DPO, 0.3, pairs).sum())
    closed_form_B = -0.3 * torch.sigmoid(-0.3 * pairs.z_B.detach())
    assert pairs.logp_chosen_B.grad is not None
    assert pairs.logp_rejected_B.grad is not None
    torch.testing.assert_close(pairs.logp_chosen_B.grad, closed_form_B)
    torch.testing.assert_close(pairs.logp_rejected_B.grad, -closed_form_B)


@every_objective
def test_gradients_agree_with_finite_differences(objective: ObjectiveSpec) -> None:
    rng = random.Random(5)
    pairs = make_pairs(*[random_row(rng, label=0.7) for _ in range(4)], grad=True)

    def losses(logp_chosen_B: Tensor, logp_rejected_B: Tensor) -> Tensor:
        moved = replace(pairs, logp_chosen_B=logp_chosen_B, logp_rejected_B=logp_rejected_B)
        return preference_losses(objective, 0.1, moved)

    assert torch.autograd.gradcheck(losses, (pairs.logp_chosen_B, pairs.logp_rejected_B))


@every_objective
def test_extreme_margins_in_float32_stay_finite_with_their_gradients(objective: ObjectiveSpec) -> None:
    logps_B = torch.tensor([-1.0, -3000.0]).requires_grad_()
    ones_B, half_B = torch.ones(2), torch.full((2,), 0.5)
    reference_B = torch.tensor([-3000.0, -1.0])
    pairs = Pairs(logps_B, reference_B, reference_B, reference_B, ones_B, ones_B, half_B, ones_B, half_B, half_B)
    losses_B = preference_losses(objective, 1.0, pairs)
    torch.autograd.backward(losses_B.sum())
    assert logps_B.grad is not None
    assert losses_B.isfinite().all()
    assert logps_B.grad.isfinite().all()


def test_a_response_without_tokens_counts_as_zero_per_token() -> None:
    pairs = make_pairs((0.0, -9.0, 0.0, -8.0, 0.0, 5.0, 1.0, 1.0, 0.8, 0.3))
    assert pairs.z_per_token_B.item() == pytest.approx(0.2)


def test_sppo_refuses_pairs_without_win_probabilities() -> None:
    with pytest.raises(SpecError, match="judged pairing"):
        preference_losses(SPPO, 0.1, make_pairs((*HAND[:8], math.nan, math.nan)))


def test_the_bonus_is_kappa_times_the_comparators_log_prob() -> None:
    torch.testing.assert_close(exploration_bonus(0.01, torch.tensor([-3.0, -200.0])), torch.tensor([-0.03, -2.0]))


def test_a_step_down_the_bonus_takes_mass_away_from_the_comparator() -> None:
    logits_V = torch.tensor([0.3, -0.2, 0.9, 0.1]).requires_grad_()
    before = logits_V.log_softmax(0)[2]
    torch.autograd.backward(exploration_bonus(0.01, before[None]).sum())
    assert logits_V.grad is not None
    after = (logits_V - 10 * logits_V.grad).log_softmax(0)[2]
    assert after.item() < before.item()


def test_the_loss_of_a_window_is_the_mean_over_pairs_plus_the_mean_over_comparators() -> None:
    pairs = make_pairs(HAND, FALLING)
    part = whole(HINGE, pairs, torch.tensor([-100.0, -200.0, -600.0], dtype=torch.float64), 2, 3)
    assert part.preference.item() == pytest.approx((0.7 + 0.5) / 2)
    assert part.bonus.item() == pytest.approx(0.01 * -300)
    assert part.loss.item() == pytest.approx(0.6 - 3)


def test_a_weight_scales_the_preference_term_of_its_pair() -> None:
    pairs = make_pairs(HAND, (*FALLING[:7], 0.5, *FALLING[8:]))
    assert whole(HINGE, pairs, torch.empty(0), 2, 0).preference.item() == pytest.approx((0.7 + 0.5 * 0.5) / 2)


def test_a_tie_masks_the_preference_term_but_keeps_the_bonus() -> None:
    tie = (*HAND[:7], 0.0, *HAND[8:])
    pairs, logp_C = (
        make_pairs(FALLING, tie, grad=True),
        torch.tensor([-10.0, -20.0], dtype=torch.float64).requires_grad_(),
    )
    part = whole(DPO, pairs, logp_C, 1, 2)
    torch.autograd.backward(part.loss)
    assert part.preference.item() == pytest.approx(slow_loss(DPO, 0.1, FALLING))
    assert part.bonus.item() == pytest.approx(-0.15)
    assert pairs.logp_chosen_B.grad is not None
    assert pairs.logp_chosen_B.grad[0] < 0
    assert pairs.logp_chosen_B.grad[1] == 0
    assert logp_C.grad is not None
    assert logp_C.grad.tolist() == pytest.approx([0.005, 0.005])


@every_objective
def test_a_masked_pair_may_hold_nan_and_changes_neither_loss_nor_gradient(objective: ObjectiveSpec) -> None:
    nan = math.nan
    pairs = make_pairs(HAND, (-5.0, -6.0, nan, nan, nan, nan, nan, 0.0, nan, nan), grad=True)
    part = whole(objective, pairs, torch.empty(0), 1, 0)
    torch.autograd.backward(part.loss)
    assert part.loss.item() == pytest.approx(slow_loss(objective, 0.1, HAND))
    assert pairs.logp_chosen_B.grad is not None
    assert pairs.logp_chosen_B.grad[1] == 0
    assert pairs.logp_chosen_B.grad[0].isfinite()


def test_an_empty_window_has_loss_zero_and_still_goes_backward() -> None:
    pairs = make_pairs((*HAND[:7], 0.0, *HAND[8:]), grad=True)
    part = whole(DPO, pairs, torch.empty(0, requires_grad=True), 0, 0)
    torch.autograd.backward(part.loss)
    assert (part.loss.item(), part.preference.item(), part.bonus.item()) == (0.0, 0.0, 0.0)
    assert pairs.logp_chosen_B.grad is not None
    assert pairs.logp_chosen_B.grad.tolist() == [0.0]


def test_micro_batches_larger_than_their_window_are_refused() -> None:
    with pytest.raises(AssertionError, match="2 pairs of a window of 1"):
        whole(DPO, make_pairs(HAND, FALLING), torch.empty(0), 1, 0)


@every_objective
@pytest.mark.parametrize("sizes", [(12,), (5, 7), (1, 1, 10), (4, 4, 4)])
def test_micro_batches_add_up_to_the_whole_window(objective: ObjectiveSpec, sizes: tuple[int, ...]) -> None:
    rng = random.Random(6)
    rows = [random_row(rng, label=rng.choice([1.0, 0.7]), weight=float(rng.random() > 0.3)) for _ in range(12)]
    pairs_total = sum(row[7] > 0 for row in rows)
    assert 0 < pairs_total < 12
    expected_pairs = [
        row[6] * slow_loss(objective, 0.1, row) + (1 - row[6]) * slow_loss(objective, 0.1, swap(row))
        for row in rows
        if row[7] > 0
    ]
    one, logp_one_C = make_pairs(*rows, grad=True), make_pairs(*rows, grad=True).logp_chosen_B
    torch.autograd.backward(whole(objective, one, logp_one_C, pairs_total, 12).loss)

    total, chosen_gradients, comparator_gradients, start = 0.0, [], [], 0
    for size in sizes:
        part = make_pairs(*rows[start : start + size], grad=True)
        logp_C = part.logp_chosen_B.detach().clone().requires_grad_()
        loss = whole(objective, part, logp_C, pairs_total, 12).loss
        torch.autograd.backward(loss)
        assert part.logp_chosen_B.grad is not None
        assert logp_C.grad is not None
        chosen_gradients.append(part.logp_chosen_B.grad)
        comparator_gradients.append(logp_C.grad)
        total, start = total + loss.item(), start + size
    assert total == pytest.approx(sum(expected_pairs) / pairs_total + 0.01 * sum(row[0] for row in rows) / 12)
    assert one.logp_chosen_B.grad is not None
    assert logp_one_C.grad is not None
    torch.testing.assert_close(torch.cat(chosen_gradients), one.logp_chosen_B.grad)
    torch.testing.assert_close(torch.cat(comparator_gradients), logp_one_C.grad)


def test_metrics_are_sums_over_the_pairs_that_count() -> None:
    level = (-3.0, -7.0, -3.0, -7.0, 4.0, 5.0, 1.0, 1.0, 0.5, 0.5)
    lost = (-13.0, -9.0, -12.0, -10.0, 4.0, 5.0, 1.0, 1.0, 0.5, 0.5)
    tie = (-99.0, -98.0, -97.0, math.nan, 4.0, 5.0, 0.5, 0.0, 0.5, 0.5)
    assert pair_metrics(0.1, make_pairs(HAND, level, lost, tie), "float32") == pytest.approx(
        {
            "rewards/chosen": 0.1 * (2 + 0 - 1),
            "rewards/rejected": 0.1 * (-1 + 0 + 1),
            "rewards/margins": 0.1 * (3 + 0 - 2),
            "rewards/accuracies": 1.5,
            "logps/chosen": -10.0 - 3.0 - 13.0,
            "logps/rejected": -9.0 - 7.0 - 9.0,
            "count": 3.0,
        }
    )


def shifted(by: float, size: float = -100.0) -> Pairs:
    """A pair of four equal log-probs, of which chosen's is moved."""
    return make_pairs((size + by, size, size, size, 4.0, 5.0, 1.0, 1.0, 0.5, 0.5))


@pytest.mark.parametrize(("dtype", "within", "beyond"), [("float32", 1e-4, 1e-3), ("bfloat16", 0.2, 1.0)])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_difference_of_log_probs_within_the_rounding_of_their_dtype_is_ranked_half_right(
    dtype: Literal["float32", "bfloat16"], within: float, beyond: float, sign: float
) -> None:
    assert pair_metrics(0.1, shifted(sign * within), dtype)["rewards/accuracies"] == 0.5
    assert pair_metrics(0.1, shifted(sign * beyond), dtype)["rewards/accuracies"] == (1.0 if sign > 0 else 0.0)


def test_what_counts_as_rounding_grows_with_the_size_of_the_log_probs() -> None:
    assert pair_metrics(0.1, shifted(1e-4, size=-1.0), "float32")["rewards/accuracies"] == 1.0
    assert pair_metrics(0.1, shifted(5e-4, size=-1000.0), "float32")["rewards/accuracies"] == 0.5


def test_metrics_of_micro_batches_add_up_to_those_of_the_window() -> None:
    rng = random.Random(7)
    rows = [random_row(rng, weight=float(i % 3 > 0)) for i in range(6)]
    parts = [pair_metrics(0.1, make_pairs(*rows[start:stop]), "float32") for start, stop in ((0, 1), (1, 4), (4, 6))]
    whole_window = pair_metrics(0.1, make_pairs(*rows), "float32")
    assert whole_window["count"] == 4
    assert {name: sum(part[name] for part in parts) for name in whole_window} == pytest.approx(whole_window)


def test_metrics_of_a_window_without_pairs_are_zero_sums_of_zero_pairs() -> None:
    tie = (*HAND[:7], 0.0, *HAND[8:])
    assert set(pair_metrics(0.1, make_pairs(tie), "float32").values()) == {0.0}


def test_columns_of_different_length_are_refused() -> None:
    pairs = make_pairs(HAND, FALLING)
    with pytest.raises(AssertionError, match="not the same pairs"):
        replace(pairs, label_B=torch.ones(3))
