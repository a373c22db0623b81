"""Weights & Biases offline: its transaction log read back; and no terminal is asked for a key."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.xpo_ray.exports.journal import WHOLE, ship, shipper_of, step, tell
from tests.xpo_ray.exports.test_shipper import until
from xpo_ray.exports.wandb import WandbExporter
from xpo_ray.reporting import RunFinished, RunStarted
from xpo_ray.spec.exports import WandbExport

pytest.importorskip("wandb", reason="needs xpo-ray[wandb]")
EXPORT = WandbExport(kind="wandb", project="tests")
BLOCK, WHOLE_ENTRY, LAST_PART = 32 * 1024, 1, 4


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_DIR", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("HOME", str(tmp_path))


def log_entries(data: bytes) -> Iterator[bytes]:
    """The entries of a `.wandb` file: seven bytes of header, then LevelDB's log format in blocks of 32 KiB."""
    entry, at = b"", 7
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
            continue
        _, length, part = struct.unpack_from("<IHB", data, at)
        entry += data[at + 7 : at + 7 + length]
        at += 7 + length
        if part in (WHOLE_ENTRY, LAST_PART):
            yield entry
            entry = b""


def of_kind(run: list[Any], kind: str) -> list[Any]:
    return [getattr(record, kind) for record in run if record.WhichOneof("record_type") == kind]


def records(root: Path) -> list[list[Any]]:
    """The records of each offline run in the folder, oldest first; the library's process writes the last just after its end."""
    from wandb.proto.wandb_internal_pb2 import Record

    runs: list[list[Any]] = []

    def read() -> bool:
        files = sorted(root.glob("wandb/offline-run-*/*.wandb"))
        runs[:] = [[Record.FromString(entry) for entry in log_entries(file.read_bytes())] for file in files]
        return all(of_kind(run, "exit") for run in runs)

    until(read)
    return runs


def history(run: list[Any]) -> list[dict[str, Any]]:
    """What was logged."""
    return [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in logged.item}
        for logged in of_kind(run, "history")
    ]


def test_an_offline_run_holds_config_tags_metrics_and_samples(tmp_path: Path) -> None:
    tell(tmp_path, 1, *WHOLE)
    ship(tmp_path, 1, "wandb", lambda: WandbExporter(EXPORT))
    (run,) = records(tmp_path)
    started = of_kind(run, "run")[0]
    assert (started.run_id, started.display_name, started.project) == ("run_1", "tiny", "tests")
    assert list(started.tags) == ["selm", "mine"]
    config = {item.key: json.loads(item.value_json) for item in started.config.update}
    assert config["training"] == {"batch_size": 8, "learning_rate": [0.001, 0.0001]}
    losses = [(row["total_step"], row["train/loss"]) for row in history(run) if "train/loss" in row]
    assert losses == [(1, 0.1), (2, 0.2), (3, pytest.approx(0.3)), (4, 0.4)]
    rewards = [(row["total_step"], row["evaluation/reward"]) for row in history(run) if "evaluation/reward" in row]
    assert rewards == [(0, 1.0), (2, 2.0), (4, 3.0)]
    (table, *_) = sorted(tmp_path.glob("wandb/offline-run-*/files/media/table/evaluation/*.json"))
    shown = json.loads(table.read_text())
    assert dict(zip(shown["columns"], shown["data"][0], strict=True))["response"] == "<script>no</script>"
    assert [ended.exit_code for ended in of_kind(run, "exit")] == [0]


def test_charts_are_drawn_over_the_total_step(tmp_path: Path) -> None:
    tell(tmp_path, 1, step(1))
    ship(tmp_path, 1, "wandb", lambda: WandbExporter(EXPORT))
    axes = {metric.glob_name: metric.step_metric for metric in of_kind(records(tmp_path)[0], "metric")}
    assert axes["train/*"] == axes["evaluation/*"] == "total_step"


def test_the_next_attempt_goes_on_under_the_same_id_with_the_time_of_measurement(tmp_path: Path) -> None:
    tell(tmp_path, 1, step(1), RunFinished("failed", 1.0, 0))
    ship(tmp_path, 1, "wandb", lambda: WandbExporter(EXPORT))
    tell(tmp_path, 2, RunStarted("run_1", 2, 2, 4), step(1, replayed=True), step(2))
    ship(tmp_path, 2, "wandb", lambda: WandbExporter(EXPORT))
    runs = records(tmp_path)
    assert [[row["total_step"] for row in history(run)] for run in runs] == [[1], [2]]
    assert {begun.run_id for run in runs for begun in of_kind(run, "run")} == {"run_1"}
    assert [[e.exit_code for e in of_kind(run, "exit")] for run in runs] == [[1], [1]]  # no journal tells of success
    line = json.loads((tmp_path / "attempts/0002/journal.jsonl").read_text().splitlines()[-1])
    assert history(runs[1])[0]["_timestamp"] == pytest.approx(line["at"], abs=1e-3)


def test_without_a_key_the_export_fails_at_once_and_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    wandb.teardown()  # its settings are read once
    monkeypatch.setenv("WANDB_MODE", "online")
    tell(tmp_path, 1, step(1))
    shipper = shipper_of(tmp_path, 1, "wandb", lambda: WandbExporter(EXPORT))
    shipper.end()
    assert shipper.ended(30.0)
    wandb.teardown()
    assert shipper.failure is not None
    assert "set WANDB_API_KEY" in shipper.failure
    assert not (tmp_path / "exports").exists()
