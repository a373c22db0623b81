"""Optimizer steps against a slow one: float64, one sequence at a time, loss and AdamW written out by hand."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.tables import candidate, dropped, pair, preferences, scored, tie
from tests.tiny import tiny_model_folder
from xpo_ray.algorithms import algorithm_row
from xpo_ray.checkpoints import load_model
from xpo_ray.errors import TrainingDiverged
from xpo_ray.logprobs import PromptGroup, ResponseLogProbs, plain
from xpo_ray.schedule import Slice, Window
from xpo_ray.scoring import score_references
from xpo_ray.spec.algorithm import SelmAlgorithm, SppoObjective
from xpo_ray.spec.training import TrainingSpec
from xpo_ray.training import StepOrder, Trainer, example

BETA, KAPPA, RATE = 0.5, 0.05, 1e-2
SPEC = TrainingSpec(adam_epsilon=1e-3, max_grad_norm=0.7, weight_decay=0.1, adam_beta1=0.8, adam_beta2=0.95)
ROW = algorithm_row(SelmAlgorithm(kind="selm", beta=BETA))
PROMPTS = [[7, 8, 9], [10], [11, 12, 13, 14], [15, 16]]
CANDIDATES = [
    [candidate("reference", [20, 21, 1]), candidate("chosen", [22, 1]), candidate("rejected", [23, 24, 25, 1])],
    [candidate("reference", [26, 1]), candidate("chosen", [27, 28, 1]), candidate("rejected", [29, 1])],
    [candidate("reference", [30, 31], ended=False), candidate("chosen", [32, 1]), candidate("rejected", [33, 1])],
    [candidate("reference", [34, 35, 36, 1]), candidate("chosen", [37, 38, 1]), candidate("rejected", [39, 1])],
]
CHOICES = [pair(0, 2, 0), pair(1, 2, 0, label=0.8), tie(0, 1, 0), dropped()]
"""The comparator wins, the comparator is neither, a tie, and nothing."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("model") / "base", layers=1)


@pytest.fixture
def trainer(folder: Path) -> Trainer:
    return Trainer(SPEC, str(folder), "float32")


def order(*rows: int, kappa: float = KAPPA, learning_rate: float = RATE, **row: Any) -> StepOrder:
    window = Window(1, 1, 1, (Slice(1, 0, rows),))
    return StepOrder(window, total_step=1, learning_rate=learning_rate, kappa=kappa, row=replace(ROW, **row))


def shard(choices: Sequence[dict[str, Any]] = tuple(CHOICES)) -> pa.Table:
    """Four prompts scored by a reference that is not the policy: every log-prob is 3 nats per token and 0.3 per place."""
    logps = [
        [
            -3.0 * len(c["ids"]) - 0.3 * k if k in {p["chosen"], p["rejected"], *p["comparators"]} else None
            for k, c in enumerate(responses)
        ]
        for responses, p in zip(CANDIDATES, choices, strict=True)
    ]
    return scored(PROMPTS, CANDIDATES, choices, logps)


def own_shard(folder: Path, choices: Sequence[dict[str, Any]] = tuple(CHOICES), **how: Any) -> pa.Table:
    """The same, scored by the very model that is trained: π = π_ref."""
    how = {"dtype": "float32", "micro_batch_tokens": 8192} | how
    return score_references(preferences(PROMPTS, CANDIDATES, choices), load_model(folder, "float32"), plain, **how)


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


def assert_same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def logp(model: nn.Module, row: int, k: int) -> Tensor:
    """Σ log π of one candidate, from a forward pass over it alone."""
    prompt, ids = PROMPTS[row], CANDIDATES[row][k]["ids"]
    logits_TV = model(input_ids=torch.tensor([prompt + ids])).logits[0].double()
    return torch.stack([logits_TV[len(prompt) + t - 1].log_softmax(-1)[token] for t, token in enumerate(ids)]).sum()


def slow_loss(model: nn.Module, rows: list[dict[str, Any]], kappa: float) -> tuple[Tensor, Tensor]:
    """DPO with soft labels, averaged over pairs, and κ log π(comparator), averaged over comparators."""
    preference: list[Tensor] = []
    bonus: list[Tensor] = []
    for i, row in enumerate(rows):
        choice, reference = row["preference"], row["reference_logps"]
        bonus += [kappa * logp(model, i, k) for k in choice["comparators"]]
        if choice["outcome"] == "pair":
            w, n, p = choice["chosen"], choice["rejected"], choice["label"]
            u = BETA * ((logp(model, i, w) - reference[w]) - (logp(model, i, n) - reference[n]))
            preference.append(-p * torch.log(1 / (1 + torch.exp(-u))) - (1 - p) * torch.log(1 / (1 + torch.exp(u))))
    return torch.stack(preference).mean(), torch.stack(bonus).mean()


def slow_adamw(model: nn.Module, moments: dict[str, tuple[Tensor, Tensor]], t: int) -> float:
    """Clip to max_grad_norm, decay weights, AdamW; returns the norm before clipping."""
    parameters = {n: p for n, p in model.named_parameters() if p.grad is not None}
    norm = math.sqrt(sum(float((p.grad**2).sum()) for p in parameters.values() if p.grad is not None))
    with torch.no_grad():
        for name, p in parameters.items():
            assert p.grad is not None
            g = p.grad * min(1.0, SPEC.max_grad_norm / norm)
            m, v = moments.get(name, (torch.zeros_like(p), torch.zeros_like(p)))
            m, v = SPEC.adam_beta1 * m + (1 - SPEC.adam_beta1) * g, SPEC.adam_beta2 * v + (1 - SPEC.adam_beta2) * g * g
            moments[name] = m, v
            fall = (m / (1 - SPEC.adam_beta1**t)) / ((v / (1 - SPEC.adam_beta2**t)).sqrt() + SPEC.adam_epsilon)
            p.copy_(p - RATE * SPEC.weight_decay * p - RATE * fall)
            p.grad = None
    return norm


def test_steps_are_those_of_a_slow_implementation(trainer: Trainer, folder: Path) -> None:
    slow = load_model(folder, "float32").double()
    moments: dict[str, tuple[Tensor, Tensor]] = {}
    for t in (1, 2, 3):
        metrics = trainer.step(order(0, 1, 2, 3), [shard()]).metrics
        preference, bonus = slow_loss(slow, shard().to_pylist(), KAPPA)
        torch.autograd.backward(preference + bonus)
        assert metrics["grad_norm"] == pytest.approx(slow_adamw(slow, moments, t), rel=1e-3)
        assert metrics["loss/preference"] == pytest.approx(float(preference), rel=1e-4)
        assert metrics["loss/bonus"] == pytest.approx(float(bonus), rel=1e-4)
        assert metrics["loss"] == pytest.approx(float(preference + bonus), rel=1e-4)
    for name, p in slow.named_parameters():
        torch.testing.assert_close(weights(trainer)[name].double(), p.detach(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_first_step_with_policy_equal_to_reference_has_preference_loss_log_2(folder: Path, dtype: Any) -> None:
    trainer = Trainer(SPEC, str(folder), dtype)
    scores = own_shard(folder, dtype=dtype, micro_batch_tokens=20)  # other micro-batches than the trainer's
    metrics = trainer.step(order(0, 1, 2, 3), [scores]).metrics
    assert metrics["loss/preference"] == pytest.approx(math.log(2), abs=1e-6 if dtype == "float32" else 5e-3)
    assert metrics["rewards/margins"] == pytest.approx(0.0, abs=1e-5 if dtype == "float32" else 2e-2)
    assert metrics["kl/reference_policy"] == pytest.approx(0.0, abs=1e-5 if dtype == "float32" else 4e-2)
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}


def test_in_bfloat16_the_reference_in_the_same_batches_is_the_policy_to_the_bit(folder: Path) -> None:
    trainer = Trainer(SPEC, str(folder), "bfloat16")
    metrics = trainer.step(order(0, 1), [own_shard(folder, CHOICES[:2] + [dropped()] * 2, dtype="bfloat16")]).metrics
    assert (metrics["rewards/margins"], metrics["kl/reference_policy"]) == (0.0, 0.0)


def test_bfloat16_moves_the_weights_as_float32_does_but_for_rounding(folder: Path) -> None:
    trainers = [Trainer(SPEC, str(folder), dtype) for dtype in ("float32", "bfloat16")]
    before = weights(trainers[0])
    losses = [t.step(order(0, 1, 2, 3), [shard()]).metrics["loss"] for t in trainers]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    moved = [torch.cat([(weights(t)[n] - before[n]).flatten() for n in before]) for t in trainers]
    assert float(torch.cosine_similarity(*moved, dim=0)) > 0.98


def test_steps_make_the_chosen_likelier_than_the_rejected(trainer: Trainer, folder: Path) -> None:
    metrics = [trainer.step(order(0, 1, kappa=0.0), [own_shard(folder)]).metrics for _ in range(6)]
    assert metrics[-1]["rewards/margins"] > metrics[1]["rewards/margins"] > 0
    assert metrics[-1]["loss"] < metrics[0]["loss"]
    assert metrics[-1]["rewards/accuracies"] == 1.0


def test_the_bonus_takes_probability_away_from_the_comparator(trainer: Trainer) -> None:
    before = float(logp(trainer.model, 2, 0).detach())
    for _ in range(3):
        trainer.step(order(2), [shard()])
    assert float(logp(trainer.model, 2, 0).detach()) < before - 0.1


def test_a_tie_masks_the_pair_and_keeps_the_bonus(trainer: Trainer) -> None:
    expected = float(logp(trainer.model, 2, 0).detach())
    metrics = trainer.step(order(2), [shard()]).metrics
    assert metrics["loss/preference"] == 0.0
    assert metrics["loss"] == metrics["loss/bonus"] == pytest.approx(KAPPA * expected, rel=1e-5)
    assert metrics["logps/comparator"] == pytest.approx(expected, rel=1e-5)
    assert (metrics["tie_rate"], metrics["pairs"], metrics["tokens"]) == (1.0, 0.0, 2.0)
    assert "rewards/margins" not in metrics


def test_the_bonus_is_a_mean_over_comparators_and_the_preference_over_pairs(trainer: Trainer) -> None:
    alone = [trainer.step(order(i, learning_rate=1e-30), [shard()]).metrics for i in range(3)]
    together = trainer.step(order(0, 1, 2, 3, learning_rate=1e-30), [shard()]).metrics
    pairs, bonuses = [m["loss/preference"] for m in alone[:2]], [m["loss/bonus"] for m in alone]
    assert together["loss/preference"] == pytest.approx(sum(pairs) / 2, rel=1e-5)
    assert together["loss/bonus"] == pytest.approx(sum(bonuses) / 3, rel=1e-5)


def test_two_comparators_of_one_prompt_both_carry_the_bonus(trainer: Trainer) -> None:
    expected = float((logp(trainer.model, 0, 0) + logp(trainer.model, 0, 1)).detach()) / 2
    choices = [pair(0, 1, 0, 1), *CHOICES[1:]]
    metrics = trainer.step(order(0), [shard(choices)]).metrics
    assert metrics["logps/comparator"] == pytest.approx(expected, rel=1e-5)
    assert metrics["loss/bonus"] == pytest.approx(KAPPA * expected, rel=1e-5)


def test_a_dropped_pair_shrinks_its_window(folder: Path) -> None:
    trainers = [Trainer(SPEC, str(folder), "float32") for _ in range(2)]
    results = [t.step(order(*rows), [shard()]) for t, rows in zip(trainers, ([0, 3, 1], [0, 1]), strict=True)]
    assert results[0].metrics["loss"] == results[1].metrics["loss"]
    assert results[0].metrics["drop_rate"] == pytest.approx(1 / 3)
    assert results[0].pairs != results[1].pairs
    assert_same_bits(weights(trainers[0]), weights(trainers[1]))


@pytest.mark.parametrize(("rows", "kappa"), [((3,), KAPPA), ((2,), 0.0)], ids=["dropped", "a tie without bonus"])
def test_an_empty_window_is_recorded_and_changes_neither_weights_nor_moments(
    trainer: Trainer, rows: tuple[int, ...], kappa: float
) -> None:
    trainer.step(order(0), [shard()])
    before = weights(trainer)
    moments = [state["exp_avg"].clone() for state in trainer.optimizer.state.values()]
    result = trainer.step(order(*rows, kappa=kappa), [shard()])
    assert_same_bits(weights(trainer), before)
    after = [state["exp_avg"] for state in trainer.optimizer.state.values()]
    assert all(torch.equal(a, b) for a, b in zip(moments, after, strict=True))
    assert {state["step"].item() for state in trainer.optimizer.state.values()} == {1.0}
    assert len(result.pairs) == 64
    assert result.metrics["loss"] == result.metrics["grad_norm"] == 0.0
    assert result.metrics["learning_rate"] == RATE


def test_micro_batches_add_up_to_the_gradient_of_the_whole_window(folder: Path) -> None:
    whole = Trainer(SPEC, str(folder), "float32")
    cut = Trainer(SPEC.model_copy(update={"micro_batch_tokens": 1}), str(folder), "float32")
    passes = count_passes(cut)
    results = [t.step(order(0, 1, 2, 3), [shard()]).metrics for t in (whole, cut)]
    assert passes == [3]
    assert results[0] == pytest.approx(results[1], rel=1e-4, abs=1e-6)
    other = weights(cut)
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(tensor, other[name], rtol=1e-4, atol=1e-6)


def count_passes(trainer: Trainer) -> list[int]:
    passes = [0]

    def counted(*_: object) -> None:
        passes[0] += 1

    trainer.model.register_forward_hook(counted)
    return passes


def test_a_window_over_two_shards_is_one_step(folder: Path) -> None:
    slices = (Slice(1, 0, (1,)), Slice(1, 1, (0, 1)))
    across = replace(order(), window=Window(1, 1, 1, slices))
    trainers = [Trainer(SPEC, str(folder), "float32") for _ in range(2)]
    one = trainers[0].step(order(1, 2, 3), [shard()])
    two = trainers[1].step(across, [shard().slice(0, 2), shard().slice(2, 2)])
    assert one.pairs == two.pairs
    assert_same_bits(weights(trainers[0]), weights(trainers[1]))


def test_saved_between_steps_and_gone_on_with_is_as_if_undisturbed(trainer: Trainer, tmp_path: Path) -> None:
    orders = [order(0, 1), order(2, 1), order(0, 3), order(1, 2, 3)]
    for one in orders[:2]:
        trainer.step(one, [shard()])
    (tmp_path / "checkpoint").mkdir()
    trainer.save(tmp_path / "checkpoint", {"step": 2}, optimizer=True)
    resumed = Trainer(SPEC, str(tmp_path / "checkpoint" / "model"), "float32")
    resumed.restore_state(tmp_path / "checkpoint")
    for one in orders[2:]:
        undisturbed, again = trainer.step(one, [shard()]), resumed.step(one, [shard()])
        assert (undisturbed.pairs, undisturbed.metrics) == (again.pairs, again.metrics)
    assert_same_bits(weights(trainer), weights(resumed))


def test_without_the_optimizer_a_checkpoint_starts_anew(trainer: Trainer, tmp_path: Path) -> None:
    trainer.step(order(0, 1), [shard()])
    trainer.save(tmp_path, {"step": 1}, optimizer=False)
    assert not (tmp_path / "trainer").exists()
    resumed = Trainer(SPEC, str(tmp_path / "model"), "float32")
    resumed.restore_state(tmp_path)
    trainer.reset_optimizer()
    for each in (trainer, resumed):
        each.step(order(1), [shard()])
    assert_same_bits(weights(trainer), weights(resumed))


def test_a_saved_model_is_a_folder_that_transformers_loads(trainer: Trainer, folder: Path, tmp_path: Path) -> None:
    trainer.step(order(0, 1), [shard()])
    trainer.save(tmp_path, {}, optimizer=False)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert_same_bits({n: p.detach() for n, p in loaded.named_parameters()}, weights(trainer))
    tokenizers = [AutoTokenizer.from_pretrained(path) for path in (folder, tmp_path / "model")]
    assert tokenizers[0].chat_template == tokenizers[1].chat_template
    assert tokenizers[0].get_vocab() == tokenizers[1].get_vocab()


def unbounded(model: nn.Module, groups: Sequence[PromptGroup]) -> ResponseLogProbs:
    """Right values with a gradient that is not finite: √0."""
    out = plain(model, groups)
    return ResponseLogProbs(out.logp_S + (out.logp_S * 0).sqrt(), out.tokens_S, out.entropy_S)


def spoiled() -> pa.Table:
    """Row 1, which comes last among micro-batches of one group, has a reference log-prob that is not a number."""
    rows = shard().to_pylist()
    rows[1]["reference_logps"][1] = math.nan
    return pa.Table.from_pylist(rows, schema=shard().schema)


def test_a_loss_that_is_no_number_raises_and_leaves_everything_as_it_was(folder: Path) -> None:
    spec = SPEC.model_copy(update={"micro_batch_tokens": 1})
    trainer, undisturbed = Trainer(spec, str(folder), "float32"), Trainer(spec, str(folder), "float32")
    before = weights(trainer)
    with pytest.raises(TrainingDiverged, match=r"loss of step 1 of iteration 1 is nan; lower training\.learning_rate"):
        trainer.step(order(0, 1), [spoiled()])
    assert_same_bits(weights(trainer), before)
    for each in (trainer, undisturbed):
        each.step(order(0, 1), [shard()])
    assert_same_bits(weights(trainer), weights(undisturbed))


def test_a_gradient_that_is_not_finite_raises_before_any_weight_has_changed(folder: Path) -> None:
    trainer = Trainer(SPEC, str(folder), "float32", log_probs=unbounded)
    before = weights(trainer)
    with pytest.raises(TrainingDiverged, match="gradient norm of step 1 of iteration 1 is nan"):
        trainer.step(order(0, 1), [shard()])
    assert_same_bits(weights(trainer), before)
    assert len(trainer.optimizer.state) == 0
    assert all(p.grad is None for p in trainer.model.parameters())


def test_dropout_of_the_model_is_off_in_training(folder: Path, tmp_path: Path) -> None:
    model = load_model(folder, "float32")
    model.config.attention_dropout = 0.5
    model.save_pretrained(tmp_path / "model")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "model")
    trainer = Trainer(SPEC, str(tmp_path / "model"), "float32")
    assert trainer.step(order(0, 1), [own_shard(folder)]).metrics["rewards/margins"] == pytest.approx(0.0, abs=1e-5)


def test_the_learning_rate_and_kappa_of_each_step_are_the_orders(trainer: Trainer) -> None:
    before = weights(trainer)
    still = trainer.step(order(0, 1, learning_rate=0.0), [shard()]).metrics
    assert (still["learning_rate"], still["kappa"]) == (0.0, KAPPA)
    assert_same_bits(weights(trainer), before)
    assert still["grad_norm"] > 0


def test_sppo_reads_the_win_probabilities(trainer: Trainer) -> None:
    choices = [pair(0, 2, wins_chosen=0.9, wins_rejected=0.2), *CHOICES[1:]]
    row = shard(choices).to_pylist()[0]
    delta_w = float(logp(trainer.model, 0, 0).detach()) - row["reference_logps"][0]
    delta_l = float(logp(trainer.model, 0, 2).detach()) - row["reference_logps"][2]
    expected = ((delta_w - 0.4 / BETA) ** 2 + (delta_l + 0.3 / BETA) ** 2) / 2
    metrics = trainer.step(order(0, objective=SppoObjective(kind="sppo")), [shard(choices)]).metrics
    assert metrics["loss/preference"] == pytest.approx(expected, rel=1e-4)


def test_the_canary_is_the_mean_log_prob_per_token(trainer: Trainer) -> None:
    ids = [PROMPTS[1][0], *CANDIDATES[1][1]["ids"]]
    assert trainer.canary(ids) == pytest.approx(float(logp(trainer.model, 1, 1).detach()) / 3, rel=1e-5)


def test_an_example_holds_each_trained_response_once() -> None:
    rows = shard().to_pylist()
    first, second, tied = (example(row) for row in rows[:3])
    assert first is not None
    assert first.group == PromptGroup(PROMPTS[0], ([20, 21, 1], [23, 24, 25, 1]))
    assert (first.chosen, first.rejected, first.comparators) == (0, 1, (0,))
    assert first.origins == ("reference", "rejected")
    assert second is not None
    assert (second.chosen, second.rejected, second.comparators, second.label) == (1, 2, (0,), 0.8)
    assert tied is not None
    assert tied.group.responses == ([30, 31],)
    assert (tied.chosen, tied.rejected, tied.comparators) == (None, None, (0,))


def test_a_dropped_row_and_a_tie_without_comparators_are_no_examples() -> None:
    rows = shard([tie(0, 1), *CHOICES[1:]]).to_pylist()
    assert example(rows[0]) is None
    assert example(rows[3]) is None
