"""kill -9 of the foreground process, then `xpo-ray run --resume`: the command line in a process with a Ray of its own."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.running import events, model_digest, tiny_world, write_spec, xpo_ray
from xpo_ray.crashpoints import POINTS
from xpo_ray.storage import LocalStorage, lineage

DRIVERS_OWN = ("attempt.", "step.after_ledger", "iteration.", "run.")
pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    return write_spec(folder, tiny_world(folder))


@pytest.fixture(scope="module")
def undisturbed(spec: Path) -> Path:
    """The folder of a run that nothing happened to."""
    done = xpo_ray("run", spec, "--set", "output.path=./undisturbed")
    assert done.returncode == 0, done.stderr
    return spec.parent / "undisturbed"


def check_lineage(root: Path) -> None:
    """Along the lineage of the result every step stands once, and no committed table was made by two attempts."""
    attempts = sorted(int(p.name) for p in (root / "attempts").iterdir())
    checkpoints = LocalStorage(root, attempts[-1]).checkpoints()
    steps = [(i, s) for c in lineage(checkpoints, checkpoints[-1]) for i, s, _ in c.ledger]
    assert steps == [(t, s) for t in (1, 2) for s in (1, 2, 3)]


@pytest.mark.long
def test_a_killed_run_resumes_with_other_resources_and_ends_bit_equal(
    spec: Path, undisturbed: Path, tmp_path: Path
) -> None:
    args = ("run", spec, "--set", "output.path=./killed")
    killed = xpo_ray(*args, XPO_CRASH_AT="step.after_ledger:5", XPO_CRASH_MARK=str(tmp_path / "mark"))
    assert killed.returncode == -signal.SIGKILL
    root = spec.parent / "killed"
    refused = xpo_ray(*args)
    assert refused.returncode == 2
    assert "--resume" in refused.stderr
    changed = xpo_ray(*args, "--resume", "--set", "algorithm.alpha=0.02")
    assert changed.returncode == 2
    assert "algorithm.alpha: was 0.01, is 0.02" in changed.stderr
    other = ("--set", "resources.engine_replicas=2", "--set", "resources.layout=colocated")
    resumed = xpo_ray(*args, "--resume", *other, "--json")
    assert resumed.returncode == 0, resumed.stderr
    result = json.loads(resumed.stdout.splitlines()[-1])
    assert (result["type"], result["tier"], result["attempts"]) == ("Result", "exact", 2)
    assert model_digest(root) == model_digest(undisturbed)
    assert events(root, "RunFinished")[-1]["replayed_steps"] == 2
    first = {
        (e["iteration"], e["shard"], e["stage"]) for e in events(root, "ShardDone") if e["fresh"] and e["attempt"] == 1
    }
    again = {
        (e["iteration"], e["shard"], e["stage"]) for e in events(root, "ShardDone") if e["fresh"] and e["attempt"] == 2
    }
    assert not first & again
    check_lineage(root)


CASES = [
    f"{point}:{n}{who}"
    for point in POINTS
    for n in ((1,) if point.startswith(("attempt", "run")) else (2,))
    for who in (("",) if point.startswith(DRIVERS_OWN) else ("", ":driver"))
]


@pytest.mark.faults
@pytest.mark.parametrize("at", CASES)
def test_a_kill_at_every_commit_point_changes_no_bit(spec: Path, undisturbed: Path, tmp_path: Path, at: str) -> None:
    root = spec.parent / "out"
    shutil.rmtree(root, ignore_errors=True)
    done = xpo_ray("run", spec, XPO_CRASH_AT=at, XPO_CRASH_MARK=str(tmp_path / "mark"))
    assert list(tmp_path.glob("mark.*")), f"{at} was never passed"
    if at.endswith(":driver") or at.startswith(DRIVERS_OWN):
        assert done.returncode == -signal.SIGKILL
        done = xpo_ray("run", spec, "--resume")
    assert done.returncode == 0, done.stderr
    assert model_digest(root) == model_digest(undisturbed)
    check_lineage(root)


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(3))
def test_kills_at_any_moment_change_no_bit(spec: Path, undisturbed: Path, seed: int) -> None:
    root = spec.parent / "out"
    shutil.rmtree(root, ignore_errors=True)
    moments = random.Random(seed)
    command = [sys.executable, "-c", "from xpo_ray.cli import main; main()", "run", str(spec)]
    for _ in range(4):
        resume = ["--resume"] if (root / "run.json").exists() else []
        with subprocess.Popen([*command, *resume], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(moments.uniform(6.0, 22.0))
            process.kill()
    done = xpo_ray("run", spec, *(["--resume"] if (root / "run.json").exists() else []))
    assert done.returncode == 0, done.stderr
    assert model_digest(root) == model_digest(undisturbed)
    check_lineage(root)
