"""The folder of a run: one living driver, one identity, attempts that adopt what stands."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from xpo_ray.attempts import Attempt, check_output, open_attempt, recorded_seed
from xpo_ray.errors import OutputError, ResumeError
from xpo_ray.spec.loading import identity, parse_spec
from xpo_ray.storage import read_json

RAW: dict[str, Any] = {
    "name": "a",
    "seed": 7,
    "model": {"path": "/models/base"},
    "data": {"source": {"kind": "files", "path": "/data/train.parquet"}},
    "algorithm": {"kind": "selm"},
    "judge": {"kind": "python", "function": "rewards:score"},
    "output": {"path": "/out"},
}
FINGERPRINTS = {"dataset": "d1", "model": "m1"}
SPEC = {"seed": 7}
IDENTITY: dict[str, Any] = {"spec": {"seed": 7}, "fingerprints": FINGERPRINTS}


def opened(root: Path, identity: dict[str, Any] = IDENTITY, *, resume: bool = False) -> Attempt:
    return open_attempt(root, identity, SPEC, {"gpu": False}, resume=resume)


def identity_of(**changes: Any) -> dict[str, Any]:
    """The identity of the spec with whole sections exchanged."""
    return identity(parse_spec(RAW | changes), FINGERPRINTS)


def test_a_new_run_has_an_identity_a_first_attempt_and_a_record(tmp_path: Path) -> None:
    attempt = opened(tmp_path / "new" / "out")
    attempt.close()
    run = read_json(attempt.root / "run.json")
    assert (run["run_id"], run["identity"], run["spec"]) == (attempt.run_id, IDENTITY, SPEC)
    assert (attempt.number, attempt.folder) == (1, attempt.root / "attempts" / "0001")
    record = read_json(attempt.folder / "attempt.json")
    assert (record["attempt"], record["pid"], record["gpu"], record["spec"]) == (1, os.getpid(), False, SPEC)
    assert {"torch", "ray", "xpo-ray"} <= set(record["versions"])


def test_an_empty_folder_may_be_used_and_one_with_other_files_may_not(tmp_path: Path) -> None:
    check_output(tmp_path, IDENTITY, resume=False)
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match="is not empty and holds no run"):
        opened(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match="holds no run; name an empty or new folder"):
        opened(tmp_path / "out")


def test_a_finished_or_broken_run_is_not_begun_again_without_resume(tmp_path: Path) -> None:
    opened(tmp_path).close()
    with pytest.raises(OutputError, match="holds another run; add --resume"):
        opened(tmp_path)


def test_resume_in_a_new_folder_begins_a_run(tmp_path: Path) -> None:
    attempt = opened(tmp_path / "out", resume=True)
    attempt.close()
    assert attempt.number == 1


def test_a_resumed_run_keeps_its_id_and_counts_its_attempts(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.close()
    second = opened(tmp_path, resume=True)
    second.close()
    assert (second.run_id, second.number) == (first.run_id, 2)


def test_the_next_attempt_adopts_and_later_writes_of_the_last_are_invisible_to_it(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.storage.publish_table("early", pa.table({"x": [1]}))
    first.close()
    second = opened(tmp_path, resume=True)
    second.close()
    first.storage.publish_table("late", pa.table({"x": [2]}))
    assert second.storage.find("early") is not None
    assert second.storage.find("late") is None
    third = opened(tmp_path, resume=True)
    third.close()
    assert third.storage.find("early") is not None
    assert third.storage.find("late") is None


def test_an_attempt_that_died_before_it_had_adopted_counts_for_nothing(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.storage.publish_table("early", pa.table({"x": [1]}))
    first.close()
    (tmp_path / "attempts" / "0002").mkdir()
    third = opened(tmp_path, resume=True)
    third.close()
    assert third.number == 3
    assert third.storage.find("early") is not None


@pytest.mark.parametrize("left", ["run.lock", ".run.json.0f0f0f0f.tmp"])
def test_what_a_driver_leaves_that_was_killed_before_its_first_commit_is_no_obstacle(tmp_path: Path, left: str) -> None:
    (tmp_path / left).write_text("half")
    attempt = opened(tmp_path)
    attempt.close()
    assert attempt.number == 1


HOLD = """
import sys, time
from pathlib import Path
from tests.xpo_ray.test_attempts import opened
attempt = opened(Path(sys.argv[1]))
print(attempt.run_id, flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A living driver in a process of its own, and the id of its run."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
        process.kill()


def test_a_living_driver_holds_the_folder_and_its_death_releases_it(
    tmp_path: Path, holder: tuple[subprocess.Popen[str], str]
) -> None:
    process, run_id = holder
    with pytest.raises(OutputError, match=f"in use by process {process.pid} on .*; wait for it or end it"):
        opened(tmp_path, resume=True)
    assert [p.name for p in (tmp_path / "attempts").iterdir()] == ["0001"]
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    second = opened(tmp_path, resume=True)
    second.close()
    assert (second.run_id, second.number) == (run_id, 2)


def test_the_lock_of_this_process_keeps_another_attempt_of_it_out(tmp_path: Path) -> None:
    attempt = opened(tmp_path)
    with pytest.raises(OutputError, match="in use by process"):
        opened(tmp_path, resume=True)
    attempt.close()
    opened(tmp_path, resume=True).close()


def test_an_attempt_that_is_refused_leaves_the_folder_unlocked(tmp_path: Path) -> None:
    opened(tmp_path).close()
    (tmp_path / "attempts" / "0001" / "adopted.json").write_text("not JSON")
    with pytest.raises(json.JSONDecodeError):
        opened(tmp_path, resume=True)
    (tmp_path / "attempts" / "0001" / "adopted.json").write_text('{"commits": [], "checkpoints": []}')
    opened(tmp_path, resume=True).close()


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("name", "b"),
        ("output", {"path": "/elsewhere", "samples": 3}),
        ("model", {"path": "/moved/base"}),
        ("resources", {"layout": "colocated", "engine_replicas": 3, "max_restarts": 9}),
        ("training", {"micro_batch_tokens": 64, "checkpoint_every_steps": 3}),
        ("evaluation", {"decoding": "greedy", "select": "best"}),
        ("judge", {"kind": "python", "function": "rewards:score", "retries": 5, "max_failed_fraction": 0.1}),
    ],
)
def test_where_and_how_the_work_is_done_may_change_between_attempts(
    tmp_path: Path, section: str, value: dict[str, Any]
) -> None:
    opened(tmp_path, identity_of()).close()
    second = opened(tmp_path, identity_of(**{section: value}), resume=True)
    second.close()
    assert second.number == 2


@pytest.mark.parametrize(
    ("section", "value", "named"),
    [
        ("seed", 8, "seed: was 7, is 8"),
        ("algorithm", {"kind": "selm", "beta": 0.2}, "algorithm.beta: was 0.1, is 0.2"),
        ("algorithm", {"kind": "iterative_dpo"}, "algorithm.kind: was 'selm', is 'iterative_dpo'"),
        ("data", RAW["data"] | {"shard_size": 8}, "data.shard_size: was 64, is 8"),
        ("sampling", {"temperature": 0.5}, "sampling.temperature: was 1.0, is 0.5"),
        ("training", {"batch_size": 32}, "training.batch_size: was 64, is 32"),
        ("judge", RAW["judge"] | {"tie_margin": 0.5}, "judge.tie_margin: was 0.0, is 0.5"),
        ("model", {"path": "/models/base", "dtype": "bfloat16"}, "model.dtype: was 'float32', is 'bfloat16'"),
    ],
)
def test_what_decides_the_result_may_not_change_and_is_named(
    tmp_path: Path, section: str, value: Any, named: str
) -> None:
    opened(tmp_path, identity_of()).close()
    with pytest.raises(ResumeError, match=named):
        opened(tmp_path, identity_of(**{section: value}), resume=True)
    assert [p.name for p in (tmp_path / "attempts").iterdir()] == ["0001"]


def test_a_setting_that_came_later_leaves_the_identity_of_older_runs_alone_until_it_is_used(tmp_path: Path) -> None:
    opened(tmp_path, identity_of(training={"batch_size": 64})).close()
    assert "optimizer" not in identity_of()["spec"]["training"]
    opened(tmp_path, identity_of(training={"optimizer": "adamw"}), resume=True).close()
    with pytest.raises(ResumeError, match=r"training\.optimizer: was unset, is 'rmsprop'"):
        opened(tmp_path, identity_of(training={"optimizer": "rmsprop"}), resume=True)


@pytest.mark.parametrize("what", ["dataset", "model"])
def test_changed_content_of_data_or_model_is_refused(tmp_path: Path, what: str) -> None:
    opened(tmp_path, identity_of()).close()
    changed = {**identity_of(), "fingerprints": FINGERPRINTS | {what: "x"}}
    with pytest.raises(ResumeError, match=f"content of the {what}: was '{what[0]}1', is 'x'"):
        check_output(tmp_path, changed, resume=True)


def test_every_change_is_listed(tmp_path: Path) -> None:
    opened(tmp_path, identity_of()).close()
    changed = identity_of(seed=8, training={"epochs": 2, "learning_rate": 1e-3})
    with pytest.raises(ResumeError) as caught:
        check_output(tmp_path, changed, resume=True)
    assert [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:]] == [
        "seed",
        "training.epochs",
        "training.learning_rate",
    ]


def test_a_resume_whose_spec_leaves_the_seed_open_finds_that_of_the_run(tmp_path: Path) -> None:
    assert recorded_seed(tmp_path) is None
    opened(tmp_path).close()
    assert recorded_seed(tmp_path) == 7
