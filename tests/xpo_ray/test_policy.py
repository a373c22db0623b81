"""Weights with a version: loaded, taken, averaged, and refused under any other version."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from torch import Tensor

from tests import tables
from tests.tiny import tiny_model_folder
from xpo_ray.adapters import Adapter, merged
from xpo_ray.algorithms import Draw
from xpo_ray.chat import Chat
from xpo_ray.checkpoints import load_model, weights_of
from xpo_ray.generation.engine import DrawContext, Sampling
from xpo_ray.logprobs import PromptGroup
from xpo_ray.policy import Policy
from xpo_ray.spec.data import LoraSpec, ModelSpec
from xpo_ray.spec.loading import parse_spec

pytestmark = pytest.mark.usefixtures("one_thread")

CANARY = list(range(20, 40))
SAMPLING = Sampling(1.0, 1.0, None, 6)
CANDIDATES = [tables.candidate("policy", [5, 6, 1]), tables.candidate("reference", [7, 1])]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> list[Path]:
    """Three models; the first is the spec's."""
    root = tmp_path_factory.mktemp("versions")
    return [model_folder, *(tiny_model_folder(root / str(seed), seed) for seed in (1, 2))]


def policy(folder: Path, dtype: str = "float32", lora: dict[str, Any] | None = None) -> Policy:
    raw = {
        "seed": 0,
        "model": {"path": str(folder), "dtype": dtype, "lora": lora},
        "data": {"source": {"kind": "files", "path": "/d"}},
        "algorithm": {"kind": "selm"},
        "judge": {"kind": "python", "function": "a:b"},
        "output": {"path": "/o"},
    }
    return Policy(parse_spec(raw), Chat.load(str(folder), None, "tokenizer"))


def loaded(folder: Path, version: int = 0, dtype: str = "float32") -> Policy:
    one = policy(folder, dtype)
    one.load(folder, version)
    return one


def weights(of: Policy) -> list[Tensor]:
    return [p.detach().clone() for p in of.scorer.parameters()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def draw(of: Policy, version: int) -> list[list[dict[str, Any]]]:
    work = [(tables.prompts([[30, 31], [32]]), DrawContext(0, "policy-0", 1, version))]
    return of.draw(work, Draw("policy"), SAMPLING)


def test_loaded_weights_are_the_folders_and_have_the_version(folders: list[Path]) -> None:
    one = loaded(folders[1], 3)
    assert one.version == 3
    assert same(weights(one), list(load_model(folders[1], "float32").parameters()))


def test_weights_by_object_ref_replace_those_held(folders: list[Path]) -> None:
    one, other = loaded(folders[0]), loaded(folders[1])
    one.take(weights_of(other.scorer), 1)
    assert one.version == 1
    assert same(weights(one), weights(other))
    assert one.canary(CANARY) == other.canary(CANARY)
    assert [[c["ids"] for c in row] for row in draw(one, 1)] == [[c["ids"] for c in row] for row in draw(other, 0)]


def test_a_policy_that_holds_nothing_yet_may_take_weights(folders: list[Path]) -> None:
    one, other = policy(folders[0]), loaded(folders[1])
    one.take(weights_of(other.scorer), 5)
    assert one.version == 5
    assert same(weights(one), weights(other))


def test_weights_that_do_not_fit_leave_the_old_ones_under_the_old_version(folders: list[Path]) -> None:
    one, other = loaded(folders[0]), loaded(folders[1])
    before = weights(one)
    with pytest.raises(ValueError, match="no weights for parameters"):
        one.take(dict(list(weights_of(other.scorer).items())[:-1]), 1)
    assert one.version == 0
    assert same(weights(one), before)


def test_weights_that_do_not_fit_leave_an_empty_policy_without_a_version(folders: list[Path]) -> None:
    one = policy(folders[0])
    with pytest.raises(ValueError, match="no weights for parameters"):
        one.take({}, 1)
    assert one.version is None


def test_the_average_gives_each_older_model_less_weight(folders: list[Path]) -> None:
    one = policy(folders[0])
    one.load_average(folders, 0.25, 2)
    assert one.version == 2
    models = [list(load_model(f, "float32").parameters()) for f in folders]
    for averaged, first, second, third in zip(weights(one), *models, strict=True):
        by_hand = 0.25 * (0.25 * first + 0.75 * second) + 0.75 * third
        torch.testing.assert_close(averaged, by_hand.detach(), atol=1e-7, rtol=1e-6)


def test_the_average_of_one_model_is_that_model(folders: list[Path]) -> None:
    one = policy(folders[0])
    one.load_average(folders[:1], 0.9, 0)
    assert same(weights(one), weights(loaded(folders[0])))


def test_every_call_is_refused_for_another_version(folders: list[Path]) -> None:
    one = loaded(folders[0], 2)
    table = tables.preferences([[20]], [CANDIDATES], [tables.pair(0, 1)])
    for call in (
        lambda: draw(one, 1),
        lambda: one.score(table, 3),
        lambda: one.logps([PromptGroup([20], ([5],))], 0),
    ):
        with pytest.raises(RuntimeError, match=r"asked for policy version \d, these weights are version 2"):
            call()


def test_a_policy_that_holds_nothing_answers_nothing(folders: list[Path]) -> None:
    with pytest.raises(RuntimeError, match="these weights are version None"):
        policy(folders[0]).logps([PromptGroup([20], ([5],))], 0)


def test_draws_carry_the_version_of_the_weights(folders: list[Path]) -> None:
    one = loaded(folders[1], 4)
    assert {c["version"] for row in draw(one, 4) for c in row} == {4}


def test_scores_and_log_probs_agree(folders: list[Path]) -> None:
    one = loaded(folders[0])
    table = tables.preferences([[20, 21]], [CANDIDATES], [tables.pair(0, 1)])
    made: pa.Table = one.score(table, 0)
    (logps,) = one.logps([PromptGroup([20, 21], ([5, 6, 1], [7, 1]))], 0)
    assert made["reference_logps"].to_pylist() == [pytest.approx(logps, abs=1e-6)]


def test_in_bfloat16_it_draws_from_half_weights_and_scores_from_full_ones(folders: list[Path]) -> None:
    one = loaded(folders[0], dtype="bfloat16")
    drawer = one.engine.model
    assert {p.dtype for p in one.scorer.parameters()} == {torch.float32}
    assert {p.dtype for p in drawer.parameters()} == {torch.bfloat16}
    for half, full in zip(drawer.parameters(), one.scorer.parameters(), strict=True):
        assert torch.equal(half, full.to(torch.bfloat16))
    assert one.canary(CANARY) == pytest.approx(loaded(folders[0]).canary(CANARY), abs=0.05)
    assert len(draw(one, 0)) == 2


def test_in_bfloat16_positions_are_still_told_apart_in_full_precision(folders: list[Path]) -> None:
    one = loaded(folders[0], dtype="bfloat16")
    buffers = dict(one.engine.model.named_buffers())
    assert "model.rotary_emb.inv_freq" in buffers
    for name, buffer in one.scorer.named_buffers():
        assert torch.equal(buffers[name], buffer), name
    assert one.scorer.config.dtype != torch.bfloat16


def test_in_bfloat16_new_weights_are_drawn_from_as_if_they_had_been_loaded(folders: list[Path]) -> None:
    one, other = loaded(folders[0], dtype="bfloat16"), loaded(folders[1], dtype="bfloat16")
    drawer = one.engine.model
    one.take(weights_of(other.scorer), 1)
    assert one.engine.model is drawer  # no third model is built for it
    for mine, theirs in zip(drawer.parameters(), other.engine.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert [[c["ids"] for c in row] for row in draw(one, 1)] == [[c["ids"] for c in row] for row in draw(other, 0)]


LORA = {"rank": 4, "alpha": 8.0}


def adapter_folder(folder: Path, seed: int, to: Path, dtype: Any = "float32") -> Path:
    """A saved adapter that is far from zero."""
    adapter = Adapter(ModelSpec(path=str(folder), dtype=dtype), LoraSpec(**LORA), seed)
    generator = torch.Generator().manual_seed(seed)
    adapter.put({n: torch.randn(t.shape, generator=generator) / 5 for n, t in adapter.weights().items()})
    adapter.save(to)
    return to


def answers(of: Policy, version: int) -> tuple[list[list[list[int]]], list[Any], list[list[float]]]:
    """What a policy draws, scores and gives as log-probs under a version."""
    table = tables.preferences([[20, 21]], [CANDIDATES], [tables.pair(0, 1)])
    ids = [[c["ids"] for c in row] for row in draw(of, version)]
    logps = of.logps([PromptGroup([20, 21], ([5, 6, 1], [7, 1]))], version)
    return ids, of.score(table, version)["reference_logps"].to_pylist(), logps


def test_with_a_far_adapter_version_0_is_the_untouched_base_to_the_bit(tmp_path: Path, folders: list[Path]) -> None:
    base, one = loaded(folders[0]), policy(folders[0], lora=LORA)
    one.load(adapter_folder(folders[0], 1, tmp_path / "a"), 3)
    own, before = answers(one, 3), one.canary(CANARY)
    assert answers(one, 0) == answers(base, 0)
    assert own != answers(base, 0)
    assert answers(one, 3) == own  # the adapter is on again
    assert one.canary(CANARY) == before
    assert before != base.canary(CANARY)


def test_an_adapted_policy_is_the_merged_model(tmp_path: Path, folders: list[Path]) -> None:
    one = policy(folders[0], lora=LORA)
    folder = adapter_folder(folders[0], 1, tmp_path / "a")
    one.load(folder, 3)
    merged(folder).save_pretrained(tmp_path / "whole")
    whole = policy(folders[0])
    whole.load(tmp_path / "whole", 3)
    ids, scores, logps = answers(one, 3)
    expected = answers(whole, 3)
    assert ids == expected[0]
    assert scores[0] == pytest.approx(expected[1][0], abs=1e-4)
    assert logps[0] == pytest.approx(expected[2][0], abs=1e-4)
    assert one.canary(CANARY) == pytest.approx(whole.canary(CANARY), abs=1e-5)


def test_an_adapter_by_object_ref_replaces_the_one_held_and_the_model_stays(
    tmp_path: Path, folders: list[Path]
) -> None:
    one, other = policy(folders[0], lora=LORA), policy(folders[0], lora=LORA)
    one.load(adapter_folder(folders[0], 1, tmp_path / "a"), 1)
    other.load(adapter_folder(folders[0], 2, tmp_path / "b"), 2)
    model = one.scorer
    assert other.adapter is not None
    one.take(other.adapter.weights(), 2)
    assert one.scorer is model
    assert answers(one, 2) == answers(other, 2)
    with pytest.raises(RuntimeError, match="asked for policy version 1, these weights are version 2"):
        answers(one, 1)


def test_an_adapted_policy_at_version_0_is_the_base_and_may_take_an_adapter(
    tmp_path: Path, folders: list[Path]
) -> None:
    one, other = policy(folders[0], lora=LORA), policy(folders[0], lora=LORA)
    one.load(folders[0], 0)
    assert answers(one, 0) == answers(loaded(folders[0]), 0)
    assert one.canary(CANARY) == loaded(folders[0]).canary(CANARY)
    other.load(adapter_folder(folders[0], 2, tmp_path / "b"), 1)
    assert other.adapter is not None
    one.take(other.adapter.weights(), 1)
    assert answers(one, 1) == answers(other, 1)


def test_one_batch_of_draws_has_one_version(tmp_path: Path, folders: list[Path]) -> None:
    one = policy(folders[0], lora=LORA)
    one.load(adapter_folder(folders[0], 1, tmp_path / "a"), 1)
    work = [(tables.prompts([[30]]), DrawContext(0, "p", 1, version)) for version in (0, 1)]
    with pytest.raises(RuntimeError, match=r"one policy version, this one has \[0, 1\]"):
        one.draw(work, Draw("policy"), SAMPLING)


def test_the_average_of_adapted_models_is_that_of_their_merged_models(tmp_path: Path, folders: list[Path]) -> None:
    paths = [adapter_folder(folders[0], k, tmp_path / f"a{k}") for k in (1, 2)]
    wholes = [tmp_path / f"w{k}" for k in (1, 2)]
    for path, whole in zip(paths, wholes, strict=True):
        merged(path).save_pretrained(whole)
    one, expected = policy(folders[0], lora=LORA), policy(folders[0])
    one.load_average([folders[0]], 0.25, 0)
    assert answers(one, 0) == answers(loaded(folders[0]), 0)
    one.load_average([folders[0], *paths], 0.25, 2)
    expected.load_average([folders[0], *wholes], 0.25, 2)
    assert answers(one, 2)[2][0] == pytest.approx(answers(expected, 2)[2][0], abs=1e-4)
    assert one.canary(CANARY) == pytest.approx(expected.canary(CANARY), abs=1e-5)


def test_in_bfloat16_one_model_draws_and_scores_and_its_adapter_is_in_float32(
    tmp_path: Path, folders: list[Path]
) -> None:
    one = policy(folders[0], "bfloat16", LORA)
    one.load(adapter_folder(folders[0], 1, tmp_path / "a", "bfloat16"), 1)
    assert one.engine.model is one.scorer
    assert one.adapter is not None
    adapted = {id(p) for p in one.adapter.parameters.values()}
    assert {p.dtype for p in one.scorer.parameters() if id(p) in adapted} == {torch.float32}
    assert {p.dtype for p in one.scorer.parameters() if id(p) not in adapted} == {torch.bfloat16}
    assert answers(one, 0) != answers(one, 1)
