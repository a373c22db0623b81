"""A rank that is killed: the other one says so at once, and nothing half-written is published."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.xpo_ray.group import work
from tests.xpo_ray.group.test_trainer import draft, model, windows
from tests.xpo_ray.group.together import Together
from tests.xpo_ray.test_training import MIXED, SPEC, shard
from xpo_ray.storage import LocalStorage

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.faults]


@pytest.fixture
def doomed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Together]:
    """Two ranks of which the second dies at a crash point."""
    monkeypatch.setenv("XPO_CRASH_AT", f"{request.param}:1")
    together = Together(2)
    yield together
    together.close()


@pytest.mark.parametrize("doomed", ["step.within"], indirect=True)
def test_a_rank_that_dies_within_a_step_is_missed_by_the_other(doomed: Together, model_folder: Path) -> None:
    doomed.all(work.make, "one", SPEC, model(model_folder))
    table = shard(MIXED, model_folder)
    survivor, dead = doomed.tried(work.steps, "one", windows(table, [[0, 1, 2, 3]]))
    assert dead[1][0] == "EOFError"
    assert survivor[1][0] == "GroupBroken"
    assert "a rank of the trainer group has not answered" in survivor[1][1]


@pytest.mark.parametrize("doomed", ["checkpoint.before_confirm"], indirect=True)
def test_a_rank_that_dies_before_it_has_confirmed_leaves_nothing_published(
    doomed: Together, model_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "attempts" / "0001"
    folder.mkdir(parents=True)
    (folder / "adopted.json").write_text('{"commits": [], "checkpoints": []}')
    doomed.all(work.make, "one", SPEC, model(model_folder))
    doomed.all(work.steps, "one", windows(shard(MIXED, model_folder), [[0, 1]]))
    survivor, dead = doomed.tried(work.published, "one", tmp_path, draft())
    assert dead[1][0] == "EOFError"
    assert survivor[1][0] == "GroupBroken"
    assert LocalStorage(tmp_path, 1).checkpoints() == []
    assert list((folder / "checkpoints").iterdir()) == []


def test_a_rank_that_stands_still_is_missed_when_the_groups_time_is_up(model_folder: Path) -> None:
    together = Together(2, timeout_s=25.0)
    together.all(work.make, "one", SPEC, model(model_folder))
    together.send(work.stand_still, "one", windows(shard(MIXED, model_folder), [[0, 1]]))
    _, error = together.received(0)
    together.processes[1].kill()
    together.close()
    assert error[0] == "GroupBroken"
    assert "raise resources.group_timeout_s" in error[1]
