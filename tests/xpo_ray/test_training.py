"""One optimizer step per window, against the same step written out by hand, one sequence at a time."""

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from tests import tables
from tests.xpo_ray.logprobs.models import bordered, make
from xpo_ray.adapters import merged, read_adapter
from xpo_ray.algorithms import Row, row_of_iteration
from xpo_ray.checkpoints import load_model, save_model
from xpo_ray.errors import TrainingDiverged
from xpo_ray.lanes import Lanes
from xpo_ray.logprobs import plain
from xpo_ray.schedule import Slice, Window
from xpo_ray.scoring import score_references
from xpo_ray.spec.algorithm import AlgorithmSpec, DpoObjective, IpoObjective, SppoObjective
from xpo_ray.spec.base import decisive
from xpo_ray.spec.data import LoraSpec, ModelSpec
from xpo_ray.spec.training import TrainingSpec
from xpo_ray.steps import StepOrder
from xpo_ray.training import Trainer, canary_logp

pytestmark = pytest.mark.usefixtures("one_thread")

LOG_2 = math.log(2)
BETA, KAPPA, RATE = 0.5, 0.05, 1e-2
SPEC = TrainingSpec(adam_epsilon=1e-3, weight_decay=0.1, max_grad_norm=0.5)
BONUS_ALONE = SPEC.model_copy(update={"bonus_without_pairs": True})
RMSPROP = SPEC.model_copy(update={"optimizer": "rmsprop", "rmsprop_alpha": 0.9, "rmsprop_epsilon": 1e-3})
ROW = Row(
    draws=(),
    dataset_candidates=True,
    pairing="best_worst",
    ties="mask",
    reference="previous",
    data="fresh",
    beta=BETA,
    objective=DpoObjective(),
    comparator="reference_draw",
    kappa=KAPPA,
    optimizer="reset",
    schedule_span="iteration",
)
PROMPTS = [[10, 11, 12, 13, 14, 15], [20], [30, 31, 32], [40, 41]]


def triple(i: int) -> list[dict[str, Any]]:
    """The candidates of prompt i: a draw of the reference, and the dataset's two."""
    return [
        tables.candidate("reference", [50 + i, 51, 52, 1]),
        tables.candidate("chosen", [60, 61 + i, 1]),
        tables.candidate("rejected", [70 + k for k in range(3 + 2 * i)], ended=False),
    ]


def shard(preferences: Sequence[dict[str, Any]], folder: Path, dtype: Any = "float32") -> pa.Table:
    """Prompts in turn with these preferences, scored under the model of a folder."""
    prompts = PROMPTS[: len(preferences)]
    candidates = [triple(i) for i in range(len(preferences))]
    table = tables.preferences(prompts, candidates, preferences)
    return score_references(table, load_model(folder, "float32"), plain, dtype=dtype, micro_batch_tokens=10_000)


MIXED = [tables.pair(0, 2, 0), tables.tie(1, 2, 0), tables.dropped(), tables.pair(1, 0, 0)]
RICH = [tables.pair(0, 2, 0, 1), tables.pair(1, 2, 0, label=0.8), tables.tie(0, 1, 0), tables.pair(1, 0)]
"""Two comparators, a comparator that is in no pair, a soft label, none."""


def whole(table: pa.Table, step: int = 1) -> Window:
    return Window(1, step, 1, (Slice(1, 0, tuple(range(table.num_rows))),))


def order(window: Window, kappa: float = KAPPA, rate: float = RATE, **parts: Any) -> StepOrder:
    return StepOrder(window, window.step, rate, kappa, replace(ROW, **parts))


def trainer(folder: Path, spec: TrainingSpec = SPEC, dtype: Any = "float32") -> Trainer:
    return Trainer(spec, str(folder), dtype)


def parameters(of: Trainer) -> list[Tensor]:
    return [p.detach().clone() for p in of.model.parameters()]


def unchanged(of: Trainer, before: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(parameters(of), before, strict=True))


def logp(model: Any, prompt: Sequence[int], response: Sequence[int]) -> Tensor:
    """Summed log-prob of one response, token by token, without padding."""
    logits = model(input_ids=torch.tensor([[*prompt, *response]])).logits[0]
    terms = [logits[len(prompt) + i - 1].log_softmax(-1)[token] for i, token in enumerate(response)]
    return torch.stack(terms).sum()


@dataclass
class ByHand:
    """DPO with a bonus, clipping and AdamW, written out."""

    model: Any
    steps: int = 0
    m: list[Tensor] = field(default_factory=list)
    v: list[Tensor] = field(default_factory=list)

    def loss(self, table: pa.Table, kappa: float) -> tuple[Tensor, Tensor]:
        """(mean preference loss over pairs, κ times the mean log-prob over comparators)."""
        losses, bonuses = [], []
        for row in table.to_pylist():
            p, ids = row["preference"], [c["ids"] for c in row["candidates"]]
            if p["outcome"] == "pair":
                delta = [
                    logp(self.model, row["prompt_ids"], ids[k]) - row["reference_logps"][k]
                    for k in (p["chosen"], p["rejected"])
                ]
                u, label = BETA * (delta[0] - delta[1]), p["label"]
                losses.append(label * torch.log1p(torch.exp(-u)) + (1 - label) * torch.log1p(torch.exp(u)))
            bonuses += [logp(self.model, row["prompt_ids"], ids[k]) for k in p["comparators"]]
        nothing = torch.zeros(())
        preference = torch.stack(losses).mean() if losses else nothing
        return preference, kappa * torch.stack(bonuses).mean() if bonuses else nothing

    def step(self, table: pa.Table, kappa: float = KAPPA) -> tuple[float, float, float]:
        """One step; returns the two losses and the norm of the gradient."""
        weights = list(self.model.parameters())
        preference, bonus = self.loss(table, kappa)
        norm = self.update(weights, list(torch.autograd.grad(preference + bonus, weights)))
        return float(preference.detach()), float(bonus.detach()), norm

    def update(self, weights: list[Tensor], grads: list[Tensor]) -> float:
        """Clipping and AdamW; returns the norm of the gradient."""
        norm = math.sqrt(sum(float((g.double() ** 2).sum()) for g in grads))
        grads = [g * min(1.0, SPEC.max_grad_norm / (norm + 1e-6)) for g in grads]
        self.m = self.m or [torch.zeros_like(g) for g in grads]
        self.v = self.v or [torch.zeros_like(g) for g in grads]
        self.steps += 1
        b1, b2 = SPEC.adam_beta1, SPEC.adam_beta2
        with torch.no_grad():
            for i, (weight, g) in enumerate(zip(weights, grads, strict=True)):
                self.m[i] = b1 * self.m[i] + (1 - b1) * g
                self.v[i] = b2 * self.v[i] + (1 - b2) * g**2
                mean, square = self.m[i] / (1 - b1**self.steps), self.v[i] / (1 - b2**self.steps)
                weight.mul_(1 - RATE * SPEC.weight_decay)
                weight.sub_(RATE * mean / (square.sqrt() + SPEC.adam_epsilon))
        return norm


class ByHandWithRmsprop(ByHand):
    """The same with RMSprop: v ← α v + (1 − α) g², w ← w − rate · g / (√v + ε), with λw in the clipped gradient."""

    def update(self, weights: list[Tensor], grads: list[Tensor]) -> float:
        norm = math.sqrt(sum(float((g.double() ** 2).sum()) for g in grads))
        self.v = self.v or [torch.zeros_like(g) for g in grads]
        with torch.no_grad():
            for i, (weight, grad) in enumerate(zip(weights, grads, strict=True)):
                g = grad * min(1.0, RMSPROP.max_grad_norm / (norm + 1e-6)) + RMSPROP.weight_decay * weight
                self.v[i] = 0.9 * self.v[i] + 0.1 * g**2
                weight.sub_(RATE * g / (self.v[i].sqrt() + 1e-3))
        return norm


def test_three_steps_of_rmsprop_are_those_written_out_by_hand(model_folder: Path) -> None:
    table = shard(MIXED, model_folder)
    mine, hand = trainer(model_folder, RMSPROP), ByHandWithRmsprop(load_model(model_folder, "float32"))
    for step in (1, 2, 3):
        result = mine.step(order(whole(table, step)), [table])
        assert result.metrics["loss"] == pytest.approx(sum(hand.step(table)[:2]), abs=1e-5)
    for ours, theirs in zip(mine.model.parameters(), hand.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)
    assert [set(state) for state in mine.optimizer.state.values()] == [{"step", "square_avg"}] * len(parameters(mine))


@pytest.mark.parametrize("preferences", [MIXED, RICH], ids=["mixed", "rich"])
def test_three_steps_are_those_written_out_by_hand(model_folder: Path, preferences: list[dict[str, Any]]) -> None:
    table = shard(preferences, model_folder)
    mine, hand = trainer(model_folder), ByHand(load_model(model_folder, "float32"))
    for step in (1, 2, 3):
        result = mine.step(order(whole(table, step)), [table])
        preference, bonus, norm = hand.step(table)
        assert result.metrics["loss/preference"] == pytest.approx(preference, abs=1e-5)
        assert result.metrics["loss/bonus"] == pytest.approx(bonus, abs=1e-5)
        assert result.metrics["loss"] == pytest.approx(preference + bonus, abs=1e-5)
        assert result.metrics["grad_norm"] == pytest.approx(norm, rel=1e-4)
        assert norm > SPEC.max_grad_norm
    for ours, theirs in zip(mine.model.parameters(), hand.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


def test_the_first_step_where_the_policy_is_the_reference_has_loss_log_2(model_folder: Path) -> None:
    table = shard(MIXED, model_folder)
    metrics = trainer(model_folder).step(order(whole(table)), [table]).metrics
    assert metrics["loss/preference"] == pytest.approx(LOG_2, abs=1e-5)
    assert metrics["rewards/margins"] == pytest.approx(0.0, abs=1e-5)
    assert (metrics["learning_rate"], metrics["kappa"]) == (RATE, KAPPA)


def test_bfloat16_computes_and_its_first_step_has_loss_log_2_too(model_folder: Path) -> None:
    table = shard(MIXED, model_folder, "bfloat16")
    one = trainer(model_folder, dtype="bfloat16")
    before = parameters(one)
    metrics = one.step(order(whole(table)), [table]).metrics
    assert metrics["loss/preference"] == pytest.approx(LOG_2, abs=5e-3)
    assert {p.dtype for p in one.model.parameters()} == {torch.float32}
    assert not unchanged(one, before)
    assert one.step(order(whole(table, 2)), [table]).metrics["loss/preference"] < LOG_2 - 5e-3


def test_dropout_of_the_models_config_is_off(tmp_path: Path, model_folder: Path) -> None:
    model = load_model(model_folder, "float32")
    model.config.attention_dropout = 0.5
    save_model(model, model_folder, tmp_path / "model")
    table = shard(MIXED, model_folder)
    metrics = trainer(tmp_path / "model").step(order(whole(table)), [table]).metrics
    assert metrics["rewards/margins"] == pytest.approx(0.0, abs=1e-5)


def test_in_bfloat16_a_reference_that_is_the_policy_is_told_from_it_by_rounding_alone(model_folder: Path) -> None:
    table = shard([tables.pair(0, 2, 0), tables.pair(1, 0, 0)], model_folder, "bfloat16")
    metrics = trainer(model_folder, dtype="bfloat16").step(order(whole(table)), [table]).metrics
    assert metrics["rewards/accuracies"] == 0.5
    assert (metrics["rewards/margins"], metrics["log_ratio/reference_draws"]) == pytest.approx((0.0, 0.0), abs=0.1)


def test_bfloat16_moves_the_weights_where_float32_moves_them(model_folder: Path) -> None:
    moves = []
    for dtype in ("float32", "bfloat16"):
        one = trainer(model_folder, dtype=dtype)
        before, table = parameters(one), shard(MIXED, model_folder, dtype)
        for step in (1, 2):
            one.step(order(whole(table, step)), [table])
        moves.append(torch.cat([(a - b).flatten() for a, b in zip(parameters(one), before, strict=True)]))
    assert float(torch.cosine_similarity(moves[0], moves[1], dim=0)) > 0.98


def test_sppo_reads_win_probabilities_and_both_log_ratios(model_folder: Path) -> None:
    table = harmed(shard([tables.pair(0, 2, wins_chosen=0.9, wins_rejected=0.2)], model_folder), 0, -30.0)
    one = trainer(model_folder)
    delta = float(logp(one.model, PROMPTS[0], triple(0)[0]["ids"]).detach()) + 30.0
    metrics = one.step(order(whole(table), objective=SppoObjective(kind="sppo")), [table]).metrics
    expected = ((delta - 0.4 / BETA) ** 2 + (0.0 + 0.3 / BETA) ** 2) / 2
    assert metrics["loss/preference"] == pytest.approx(expected, rel=1e-4)


def test_training_raises_the_chosen_over_the_rejected(model_folder: Path) -> None:
    table = shard([tables.pair(0, 2)], model_folder)
    one = trainer(model_folder)
    for step in range(1, 6):
        metrics = one.step(order(whole(table, step), comparator="none", kappa=0.0), [table]).metrics
    assert metrics["rewards/margins"] > 0.1
    assert metrics["rewards/accuracies"] == 1.0


def test_a_step_takes_the_beta_of_its_iteration(tmp_path: Path, model_folder: Path) -> None:
    """From one checkpoint: z is the same, β z and the loss of a single pair, log(1 + exp(−β z)), follow β."""
    spec = TypeAdapter[Any](AlgorithmSpec).validate_python({"kind": "selm", "alpha": 0.0, "beta": [0.5, 0.1]})
    table = shard(MIXED[:1], model_folder)
    moved = trainer(model_folder)
    moved.step(order(whole(table)), [table])
    moved.save(tmp_path, {"step": 1}, optimizer=False)
    told = {}
    for iteration, beta in ((1, 0.5), (2, 0.1)):
        row = row_of_iteration(spec, iteration)
        given = StepOrder(whole(table, 2), 2, RATE, 0.0, row)
        told[beta] = trainer(tmp_path / "model").step(given, [table]).metrics
        assert told[beta]["loss"] == pytest.approx(math.log1p(math.exp(-told[beta]["rewards/margins"])), rel=1e-5)
    assert told[0.5]["rewards/margins"] == pytest.approx(5 * told[0.1]["rewards/margins"], rel=1e-6)
    assert told[0.1]["rewards/margins"] > 0


def test_the_bonus_takes_mass_away_from_the_comparator(model_folder: Path) -> None:
    table = shard([tables.tie(1, 2, 0)], model_folder)
    one = trainer(model_folder, BONUS_ALONE)
    ids = triple(0)[0]["ids"]
    before = float(logp(one.model, PROMPTS[0], ids).detach())
    one.step(order(whole(table)), [table])
    assert float(logp(one.model, PROMPTS[0], ids).detach()) < before - 0.01


def test_a_tie_masks_the_pair_and_keeps_the_bonus(model_folder: Path) -> None:
    table = shard([tables.tie(1, 2, 0)], model_folder)
    one, bonus_alone = trainer(model_folder, BONUS_ALONE), ByHand(load_model(model_folder, "float32"))
    metrics = one.step(order(whole(table)), [table]).metrics
    assert (metrics["loss/preference"], metrics["skipped"]) == (0.0, 0.0)
    assert metrics["loss/bonus"] == pytest.approx(bonus_alone.step(table)[1], abs=1e-5)
    assert (metrics["pairs"], metrics["tie_rate"]) == (0.0, 1.0)
    assert "rewards/margins" not in metrics


@pytest.mark.parametrize("spec", [SPEC, RMSPROP], ids=["adamw", "rmsprop"])
def test_a_window_without_a_pair_is_skipped_so_that_the_bonus_never_trains_alone(
    model_folder: Path, spec: TrainingSpec
) -> None:
    """Behind a step that left moments: neither they nor weight decay move a weight."""
    paired, tied = shard(MIXED, model_folder), shard([tables.tie(1, 2, 0)], model_folder)
    one = trainer(model_folder, spec)
    one.step(order(whole(paired)), [paired])
    before = parameters(one)
    result = one.step(order(whole(tied, 2)), [tied])
    assert result.skipped
    assert unchanged(one, before)
    assert {"loss", "loss/bonus", "grad_norm", "logps/comparator"}.isdisjoint(result.metrics)
    assert (result.metrics["pairs"], result.metrics["tie_rate"]) == (0.0, 1.0)
    assert not one.step(order(whole(paired, 3)), [paired]).skipped


def test_means_are_over_the_pairs_and_comparators_that_count_not_over_prompts(model_folder: Path) -> None:
    with_holes = shard([tables.pair(0, 2, 0), tables.dropped(), tables.dropped()], model_folder)
    without = shard([tables.pair(0, 2, 0)], model_folder)
    one, other = trainer(model_folder), trainer(model_folder)
    metrics = one.step(order(whole(with_holes)), [with_holes]).metrics
    expected = other.step(order(whole(without)), [without]).metrics
    assert unchanged(one, parameters(other))
    assert metrics["loss"] == expected["loss"]
    assert (metrics["drop_rate"], expected["drop_rate"]) == (2 / 3, 0.0)


def test_a_window_in_which_nothing_counts_changes_no_weight_and_has_a_hash(model_folder: Path) -> None:
    table = shard([tables.dropped(), tables.tie(1, 2)], model_folder)
    one = trainer(model_folder)
    before = parameters(one)
    result = one.step(order(whole(table), comparator="none", kappa=0.0), [table])
    assert unchanged(one, before)
    assert not one.optimizer.state
    assert result.skipped
    assert {"loss", "grad_norm"}.isdisjoint(result.metrics)
    assert len(result.pairs) == 64


def test_where_ties_alone_stand_and_kappa_is_zero_old_momentum_moves_nothing(model_folder: Path) -> None:
    table, ties = shard(MIXED, model_folder), shard([tables.tie(1, 2, 0)], model_folder)
    one = trainer(model_folder)
    one.step(order(whole(table)), [table])
    before, moments = parameters(one), deepcopy(list(one.optimizer.state.values()))
    one.step(order(whole(ties, 2), kappa=0.0), [ties])
    assert unchanged(one, before)
    for state, kept in zip(one.optimizer.state.values(), moments, strict=True):
        assert all(torch.equal(state[name], kept[name]) for name in ("step", "exp_avg", "exp_avg_sq"))


def test_micro_batches_add_up_to_the_gradient_of_the_whole_window(model_folder: Path) -> None:
    table = shard(MIXED, model_folder)
    whole_batch = trainer(model_folder)
    in_pieces = trainer(model_folder, SPEC.model_copy(update={"micro_batch_tokens": 1}))
    for step in (1, 2):
        one = whole_batch.step(order(whole(table, step)), [table])
        other = in_pieces.step(order(whole(table, step)), [table])
        assert one.pairs == other.pairs
        assert other.metrics == pytest.approx(one.metrics, abs=2e-5)
    for ours, theirs in zip(whole_batch.model.parameters(), in_pieces.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


def test_lanes_side_by_side_make_the_step_of_one(model_folder: Path) -> None:
    table = shard(MIXED, model_folder)
    found = []
    for lanes in (1, 2, 2):
        each = trainer(model_folder)
        each.lanes = Lanes(each.device, lanes)
        metrics = each.step(order(whole(table)), [table]).metrics
        found.append((metrics, [p.clone() for p in parameters(each)]))
    alone, beside, again = found
    assert beside[0] == pytest.approx(alone[0], abs=1e-5)
    assert beside[0] == again[0]
    for a, b, c in zip(alone[1], beside[1], again[1], strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0.0)
        assert torch.equal(b, c)


def test_a_window_takes_its_rows_out_of_several_shards_in_its_order(model_folder: Path) -> None:
    table = shard(MIXED, model_folder)
    window = Window(1, 1, 1, (Slice(1, 0, (3, 0)), Slice(1, 1, (1,))))
    one, other = trainer(model_folder), trainer(model_folder)
    result = one.step(order(window), [table, table])
    picked = pa.concat_tables([table.take([3, 0]), table.take([1])])
    assert result.pairs == other.step(order(whole(picked)), [picked]).pairs
    assert unchanged(one, parameters(other))


def test_a_window_without_the_shard_of_a_slice_is_refused(model_folder: Path) -> None:
    table = shard(MIXED, model_folder)
    window = Window(1, 1, 1, (Slice(1, 0, (0,)), Slice(1, 1, (1,))))
    with pytest.raises(ValueError, match="zip"):
        trainer(model_folder).step(order(window), [table])


@pytest.mark.parametrize("spec", [SPEC, RMSPROP], ids=["adamw", "rmsprop"])
def test_training_goes_on_bit_by_bit_from_a_checkpoint_between_two_steps(
    tmp_path: Path, model_folder: Path, spec: TrainingSpec
) -> None:
    table = shard(MIXED, model_folder)
    undisturbed = trainer(model_folder, spec)
    undisturbed.step(order(whole(table)), [table])
    undisturbed.save(tmp_path, {"step": 1}, optimizer=True)
    rest = [undisturbed.step(order(whole(table, step)), [table]) for step in (2, 3)]

    origin = ModelSpec(path=str(model_folder))
    resumed = Trainer(spec, str(tmp_path / "model"), "float32", origin=origin)
    resumed.restore_state(tmp_path)
    again = [resumed.step(order(whole(table, step)), [table]) for step in (2, 3)]
    assert unchanged(resumed, parameters(undisturbed))
    assert [r.metrics for r in again] == [r.metrics for r in rest]


def test_saving_leaves_the_trainer_as_it_was(tmp_path: Path, model_folder: Path) -> None:
    table = shard(MIXED, model_folder)
    saved, other = trainer(model_folder), trainer(model_folder)
    for one in (saved, other):
        one.step(order(whole(table)), [table])
    saved.save(tmp_path, {}, optimizer=True)
    for one in (saved, other):
        one.step(order(whole(table, 2)), [table])
    assert unchanged(saved, parameters(other))


def test_a_checkpoint_without_the_optimizer_starts_it_anew(tmp_path: Path, model_folder: Path) -> None:
    table = shard(MIXED, model_folder)
    one = trainer(model_folder)
    one.step(order(whole(table)), [table])
    one.save(tmp_path, {}, optimizer=False)
    assert not (tmp_path / "trainer").exists()
    one.reset_optimizer()
    other = trainer(tmp_path / "model")
    other.restore_state(tmp_path)
    for each in (one, other):
        each.step(order(whole(table, 2)), [table])
    assert unchanged(one, parameters(other))


def harmed(table: pa.Table, place: int, value: float) -> pa.Table:
    """A shard in which one reference log-prob is not what it should be."""
    rows = table.to_pylist()
    rows[place]["reference_logps"][rows[place]["preference"]["chosen"]] = value
    return pa.Table.from_pylist(rows, schema=table.schema)


@pytest.mark.parametrize("tokens", [1, 10_000])
def test_a_loss_that_is_not_finite_stops_and_leaves_no_trace(model_folder: Path, tokens: int) -> None:
    table = shard(MIXED, model_folder)
    spec = SPEC.model_copy(update={"micro_batch_tokens": tokens})
    one, other = trainer(model_folder, spec), trainer(model_folder, spec)
    before = parameters(one)
    for place in (0, 3):
        with pytest.raises(
            TrainingDiverged, match=r"loss of step 7 of iteration 1 is nan; lower training\.learning_rate"
        ):
            one.step(order(whole(table, 7)), [harmed(table, place, math.nan)])
    assert unchanged(one, before)
    for each in (one, other):
        each.step(order(whole(table)), [table])
    assert unchanged(one, parameters(other))


def test_a_gradient_that_is_not_finite_stops_before_any_weight_has_changed(model_folder: Path) -> None:
    table = harmed(shard([tables.pair(0, 2)], model_folder), 0, 1.5e19)
    one = trainer(model_folder)
    before = parameters(one)
    ipo = order(whole(table), kappa=0.0, objective=IpoObjective(kind="ipo"))
    with pytest.raises(TrainingDiverged, match="gradient norm of step 1 of iteration 1 is inf"):
        one.step(ipo, [table])
    assert unchanged(one, before)
    assert not one.optimizer.state


def test_the_canary_is_the_mean_log_prob_of_a_text_behind_its_first_token(model_folder: Path) -> None:
    one = trainer(model_folder)
    expected = float(logp(one.model, [10], [11, 12, 13]).detach()) / 3
    assert one.canary([10, 11, 12, 13]) == pytest.approx(expected, abs=1e-6)
    with torch.no_grad():
        rough = canary_logp(plain, one.model, [10, 11, 12, 13], "bfloat16")
    assert rough == pytest.approx(expected, abs=0.05)


def test_weights_by_object_ref_are_the_policys(model_folder: Path) -> None:
    one = trainer(model_folder)
    state = one.model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in one.weights().items())


def rounded_attention(
    module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    """Attention on queries, keys and values in bfloat16, each head of keys and values as often as it is used."""
    heads = [x.bfloat16() for x in (q, *(x.repeat_interleave(module.num_key_value_groups, dim=1) for x in (k, v)))]
    out = scaled_dot_product_attention(*heads, attn_mask=mask, is_causal=mask is None, scale=scaling)
    return out.transpose(1, 2).contiguous(), None


AttentionInterface.register("rounded_by_hand", rounded_attention)
AttentionMaskInterface.register("rounded_by_hand", sdpa_mask)


def round_products(model: Any) -> None:
    """Matrix products on bfloat16 copies of float32 master weights, all else in float32, written out layer by layer."""
    model.set_attn_implementation("rounded_by_hand")
    for layer in (m for m in model.modules() if isinstance(m, nn.Linear)):
        layer.forward = lambda x, own=layer: linear(x.bfloat16(), own.weight.bfloat16())  # type: ignore[method-assign]


def test_in_bfloat16_steps_are_those_of_float32_master_weights_written_out(model_folder: Path) -> None:
    table = shard(MIXED, model_folder, "bfloat16")
    one = Trainer(SPEC, str(model_folder), "bfloat16", log_probs=plain)
    hand = Trainer(SPEC, str(model_folder), "float32", log_probs=plain)
    round_products(hand.model)
    for step in (1, 2, 3):
        metrics = one.step(order(whole(table, step)), [table]).metrics
        assert metrics == hand.step(order(whole(table, step)), [table]).metrics
    assert unchanged(one, parameters(hand))
    assert {p.dtype for p in one.model.parameters()} == {torch.float32}
    assert {v.dtype for state in one.optimizer.state.values() for v in state.values()} == {torch.float32}


def test_checkpointing_changes_no_bit_of_a_step_and_may_be_switched_on_by_a_resume(
    tmp_path: Path, model_folder: Path
) -> None:
    again = SPEC.model_copy(update={"activation_checkpointing": True})
    table = shard(MIXED, model_folder)
    one, other = trainer(model_folder), trainer(model_folder, again)
    for each in (one, other):
        each.step(order(whole(table)), [table])
    assert unchanged(one, parameters(other))
    one.save(tmp_path, {}, optimizer=True)
    resumed = Trainer(again, str(tmp_path / "model"), "float32", origin=ModelSpec(path=str(model_folder)))
    resumed.restore_state(tmp_path)
    for each in (one, other, resumed):
        each.step(order(whole(table, 2)), [table])
    assert unchanged(one, parameters(other))
    assert unchanged(one, parameters(resumed))
    assert "activation_checkpointing" not in decisive(again)


LORA = LoraSpec(rank=4, alpha=8.0)


def adapted(folder: Path, start: Path | None = None, dtype: Any = "float32", seed: int = 0) -> Trainer:
    """A trainer of an adapter, at its beginning or from a checkpoint's model."""
    origin = ModelSpec(path=str(folder), dtype=dtype, lora=LORA)
    return Trainer(SPEC, str(start or folder), dtype, origin=origin, seed=seed)


@dataclass
class Factored:
    """A model whose weights are W + 2·B·A, made anew of the factors in every forward pass."""

    model: Any
    factors: dict[str, Tensor]

    def __call__(self, **kwargs: Any) -> Any:
        weights = {n: p.detach() for n, p in self.model.named_parameters()}
        for name in [n for n in self.factors if n.endswith("lora_A.weight")]:
            place = name.removeprefix("base_model.model.").replace(".lora_A", "")
            weights[place] = weights[place] + 2.0 * self.factors[name.replace("lora_A", "lora_B")] @ self.factors[name]
        return torch.func.functional_call(self.model, weights, kwargs=kwargs)

    def parameters(self) -> list[Tensor]:
        return list(self.factors.values())


def test_steps_on_an_adapter_are_those_on_its_factors_written_out(model_folder: Path) -> None:
    table = shard(RICH, model_folder)
    mine = adapted(model_folder)
    factors = {n: t.requires_grad_() for n, t in mine.weights().items()}
    hand = ByHand(Factored(load_model(model_folder, "float32"), factors))
    for step in (1, 2, 3):
        metrics = mine.step(order(whole(table, step)), [table]).metrics
        preference, bonus, norm = hand.step(table)
        assert (metrics["loss/preference"], metrics["loss/bonus"]) == pytest.approx((preference, bonus), abs=1e-4)
        assert metrics["grad_norm"] == pytest.approx(norm, rel=1e-3)
    for name, tensor in mine.weights().items():
        torch.testing.assert_close(tensor, factors[name].detach(), atol=2e-5, rtol=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_adapter_begins_at_loss_log_2_and_the_model_under_it_stays(model_folder: Path, dtype: Any) -> None:
    one, base = adapted(model_folder, dtype=dtype), load_model(model_folder, dtype)
    assert one.adapter is not None
    with one.adapter.off():
        table = score_references(
            tables.preferences(PROMPTS, [triple(i) for i in range(4)], RICH),
            one.model,
            one.log_probs,
            dtype=dtype,
            micro_batch_tokens=10_000,
        )
    losses = [one.step(order(whole(table, step)), [table]).metrics["loss/preference"] for step in (1, 2, 3, 4)]
    assert losses[0] == pytest.approx(0.8 / 3 * LOG_2 + 2.2 / 3 * LOG_2, abs=1e-5)
    assert losses[-1] < LOG_2 - 5e-3
    frozen = {n.replace(".base_layer", ""): p for n, p in one.model.named_parameters() if not p.requires_grad}
    assert frozen.keys() == dict(base.named_parameters()).keys()
    assert all(torch.equal(p, frozen[n]) for n, p in base.named_parameters())
    assert {p.dtype for p in one.adapter.parameters.values()} == {torch.float32}


def test_an_adapters_training_goes_on_bit_by_bit_from_a_checkpoint(tmp_path: Path, model_folder: Path) -> None:
    table = shard(MIXED, model_folder)
    undisturbed = adapted(model_folder)
    undisturbed.step(order(whole(table)), [table])
    undisturbed.save(tmp_path, {"step": 1}, optimizer=True)
    rest = [undisturbed.step(order(whole(table, step)), [table]) for step in (2, 3)]
    resumed = adapted(model_folder, tmp_path / "model", seed=7)
    resumed.restore_state(tmp_path)
    again = [resumed.step(order(whole(table, step)), [table]) for step in (2, 3)]
    assert unchanged(resumed, parameters(undisturbed))
    assert [r.metrics for r in again] == [r.metrics for r in rest]


def test_what_an_adapters_trainer_saves_and_sends_is_the_adapter_alone(tmp_path: Path, model_folder: Path) -> None:
    table = shard(MIXED, model_folder)
    one = adapted(model_folder)
    one.step(order(whole(table)), [table])
    one.save(tmp_path, {}, optimizer=True)
    sent, saved = one.weights(), read_adapter(tmp_path / "model")
    assert sent.keys() == saved.keys()
    assert all(torch.equal(sent[n], saved[n]) for n in sent)
    assert sum(t.numel() for t in sent.values()) == sum(p.numel() for p in one.model.parameters() if p.requires_grad)
    assert (tmp_path / "model" / "tokenizer.json").exists()
    assert not (tmp_path / "model" / "model.safetensors").exists()
    canary = canary_logp(plain, merged(tmp_path / "model"), [10, 11, 12, 13], "float32")
    assert one.canary([10, 11, 12, 13]) == pytest.approx(canary, abs=1e-5)


def test_a_model_that_remembers_lengths_is_computed_in_one_lane(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    models = {"longrope": bordered("longrope"), "dynamic": bordered("dynamic"), "llama": make("llama")}
    for name, lanes in (("longrope", 1), ("dynamic", 1), ("llama", 2)):
        models[name].save_pretrained(tmp_path / name)
        assert Trainer(TrainingSpec(), str(tmp_path / name), "float32").lanes.most == lanes
