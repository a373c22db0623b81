"""The actor around a judge, called as a plain object: what a shard's table and its counts say."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import TypeAdapter

from tests import tables
from xpo_ray.actors.judge import JudgeActor
from xpo_ray.algorithms import algorithm_row
from xpo_ray.errors import JudgeError, JudgeUnreachable
from xpo_ray.shards import CANDIDATES, PREFERENCES, with_column
from xpo_ray.spec.algorithm import AlgorithmSpec
from xpo_ray.spec.judge import JudgeSpec

JUDGES = '''
def length(prompt, responses):
    return [float(len(r)) for r in responses]


def first(prompt, responses):
    """Number of the response's first token: its text spells its ids."""
    return [float(r.split()[0]) for r in responses]
'''
LENGTH = {"kind": "python", "function": "rewards:length"}
FIRST = {"kind": "python", "function": "rewards:first"}
ROW = algorithm_row(TypeAdapter[Any](AlgorithmSpec).validate_python({"kind": "xpo"}))


@pytest.fixture
def actor(tmp_path: Path) -> Iterator[Callable[..., JudgeActor]]:
    made: list[JudgeActor] = []

    def started(raw: dict[str, Any]) -> JudgeActor:
        (tmp_path / "rewards.py").write_text(JUDGES)
        made.append(JudgeActor(TypeAdapter[JudgeSpec](JudgeSpec).validate_python(raw), str(tmp_path)))
        return made[-1]

    yield started
    for each in made:
        if each.judge is not None:
            each.judge.close()


def drawn(*pairs: tuple[list[int], list[int]]) -> pa.Table:
    """A shard of two draws for each prompt."""
    candidates = [[tables.candidate("policy", p), tables.candidate("reference", r)] for p, r in pairs]
    return with_column(tables.prompts([[3]] * len(pairs)), CANDIDATES, candidates=candidates)


def test_a_judge_that_cannot_be_opened_is_a_fault_of_the_first_call_and_no_death_of_the_actor(tmp_path: Path) -> None:
    (tmp_path / "rewards.py").write_text(JUDGES)
    spec = TypeAdapter[JudgeSpec](JudgeSpec).validate_python({**LENGTH, "function": "rewards:lenght"})
    with pytest.raises(JudgeError, match="has no lenght; did you mean length"):
        JudgeActor(spec, str(tmp_path)).ready()


def test_disagreement_lies_beside_the_verdict_and_the_shards_counts_tell_it(actor: Callable[..., JudgeActor]) -> None:
    judge = actor({"kind": "ensemble", "members": [{"judge": LENGTH, "weight": 2.0}, {"judge": FIRST}]})
    shard = drawn(([7, 1], [5, 1, 1]), ([5], [6, 7]))
    table, summary = judge.prefer(shard, ROW, 0, 1)
    assert table.schema == PREFERENCES
    assert [j["disagreement"] for j in table["judgement"].to_pylist()] == [pytest.approx(1 / 3), 0.0]
    assert [p["chosen"] for p in table["preference"].to_pylist()] == [1, 1]
    assert (summary.counts["disagreed"], summary.counts["pairs"], summary.counts["failed"]) == (1.0, 2.0, 0.0)


def test_a_judge_out_of_reach_tells_how_to_go_on_and_one_that_may_be_missing_is_remarked(
    actor: Callable[..., JudgeActor],
) -> None:
    nobody = {"kind": "http", "url": "http://127.0.0.1:9/", "retries": 0, "breaker_failures": 1, "patience_s": 0.0}
    with pytest.raises(JudgeUnreachable, match=r"prompts of a shard: .* bring the judge back, then resume the run$"):
        actor(nobody).prefer(drawn(([7, 1], [5, 1, 1])), ROW, 0, 1)
    judge = actor({"kind": "ensemble", "members": [{"judge": LENGTH}, {"judge": nobody}], "min_members": 1})
    _, summary = judge.prefer(drawn(([7, 1], [5, 1, 1])), ROW, 0, 1)
    assert (summary.counts["pairs"], summary.counts["without_member"]) == (1.0, 1.0)
    assert list(summary.remarks) == ["judge_member_1_away"]


def test_answers_that_were_known_are_counted(actor: Callable[..., JudgeActor]) -> None:
    judge, shard = actor(LENGTH | {"cache_entries": 10}), drawn(([7, 1], [5, 1, 1]), ([5], [6, 7]))
    first, fresh = judge.prefer(shard, ROW, 0, 1)
    again, known = judge.prefer(shard, ROW, 0, 1)
    assert again.equals(first)
    assert (fresh.counts["cached_responses"], known.counts["cached_responses"]) == (0.0, 4.0)


def test_a_judge_that_counts_nothing_adds_nothing(actor: Callable[..., JudgeActor]) -> None:
    _, summary = actor(LENGTH).prefer(drawn(([7], [5, 1])), ROW, 0, 1)
    assert set(summary.counts) == {"prompts", "pairs", "ties", "dropped", "identical", "failed"}
