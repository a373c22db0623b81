"""Reference log-probs: which candidates get one, and which value."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from tests import tables
from xpo_ray.checkpoints import load_model
from xpo_ray.logprobs import PromptGroup, plain
from xpo_ray.scoring import score_references, sequence_logps
from xpo_ray.shards import SCORED

pytestmark = pytest.mark.usefixtures("one_thread")

CANDIDATES = [
    tables.candidate("policy", [5, 6, 1]),
    tables.candidate("reference", [7]),
    tables.candidate("chosen", [8, 9, 10, 11, 1]),
]


@pytest.fixture(scope="module")
def model(model_folder: Path) -> Any:
    return load_model(model_folder, "float32")


def logp(model: Any, prompt: list[int], response: list[int]) -> float:
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + response])).logits[0].log_softmax(-1)
    return sum(float(logits[len(prompt) + i - 1, token]) for i, token in enumerate(response))


def scored(model: Any, table: pa.Table, tokens: int = 10_000) -> list[list[float | None]]:
    made = score_references(table, model, plain, dtype="float32", micro_batch_tokens=tokens)
    assert made.schema == SCORED
    values: list[list[float | None]] = made["reference_logps"].to_pylist()
    return values


@pytest.mark.parametrize("tokens", [1, 24, 10_000])
def test_what_is_trained_on_gets_its_log_prob_and_the_rest_a_null(model: Any, tokens: int) -> None:
    prompts = [[20, 21, 22, 23, 24, 25, 26, 27, 28], [30], [40, 41], [50]]
    preferences = [tables.pair(2, 0), tables.dropped(), tables.tie(0, 2, 1), tables.pair(0, 1, 1)]
    values = scored(model, tables.preferences(prompts, [CANDIDATES] * 4, preferences), tokens)
    wanted = [[0, 2], [], [1], [0, 1]]
    for prompt, row, used in zip(prompts, values, wanted, strict=True):
        expected = [logp(model, prompt, c["ids"]) if k in used else None for k, c in enumerate(CANDIDATES)]
        assert [v is None for v in row] == [e is None for e in expected]
        assert [v for v in row if v is not None] == pytest.approx([e for e in expected if e is not None], abs=1e-5)


def test_a_shard_in_which_nothing_is_trained_on_gets_nulls(model: Any) -> None:
    table = tables.preferences([[20], [21]], [CANDIDATES] * 2, [tables.dropped(), tables.dropped()])
    assert scored(model, table) == [[None] * 3] * 2


def test_the_other_columns_stay_as_they_were(model: Any) -> None:
    table = tables.preferences([[20], [21]], [CANDIDATES] * 2, [tables.pair(0, 1, 1), tables.dropped()], first_row=9)
    made = score_references(table, model, plain, dtype="float32", micro_batch_tokens=100)
    assert made.drop_columns(["reference_logps"]).equals(table)


def test_log_probs_come_back_in_the_order_of_the_groups_whatever_the_batches(model: Any) -> None:
    groups = [PromptGroup([20 + i], tuple([5] * (1 + (3 * i + k) % 5) for k in range(i % 3))) for i in range(9)]
    together = sequence_logps(model, groups, plain, dtype="float32", micro_batch_tokens=10_000)
    assert [len(values) for values in together] == [i % 3 for i in range(9)]
    for group, values in zip(groups, together, strict=True):
        assert values == pytest.approx(
            [logp(model, list(group.prompt_ids), list(r)) for r in group.responses], abs=1e-5
        )
    singly = sequence_logps(model, groups, plain, dtype="float32", micro_batch_tokens=1)
    assert [v for values in singly for v in values] == pytest.approx([v for vs in together for v in vs], abs=1e-5)
