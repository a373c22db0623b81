"""The fault suite of the service: one run that loses an engine, a replica of its judge and two ranks of its trainer group by
SIGKILL, each in the middle of its work, one after the other.

Runs with `make faults` and prints its figures; test_faults.py kills one part of a run that has one of each.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.running import model_digest
from tests.service.invariants import faults_of, tally, told
from tests.service.leftovers import leftovers
from tests.service.recovery import CANARY, LEASE_S, begun, soon
from tests.service.serving import Service, serving
from tests.service.striking import at_work_s, next_work_s, strike
from tests.service.worlds import make_world, undisturbed
from xpo_ray.generation.installed import vllm_fault
from xpo_ray.storage import LocalStorage, lineage

pytestmark = [pytest.mark.ray, pytest.mark.faults]

STAGES = ("candidates", "preferences", "scored")
SHARDS = {"transformers": 10, "vllm": 15}
"""Of eight prompts, and as many steps, in each of two iterations: a vLLM engine takes longer to come up again."""
JUDGE_S = {"transformers": 0.1, "vllm": 0.4}
"""Of a judge for each prompt. It sets the pace of draws that are not made ahead, so that one is under way now and then."""
TWO_OF_EACH = {"engine_replicas": 2, "judge_replicas": 2, "trainer_workers": 2}
VICTIMS = (
    ("engine in a draw", r"policy/0(\.\d+)?", "PolicyActor.draw", "candidates"),
    ("judge replica in a judgement", r"judge/1(\.\d+)?", "JudgeActor.prefer", "preferences"),
    ("trainer rank in a step", r"trainer(\.\d+)?/1", "TrainerRank.step", "step"),
    ("first trainer rank in a step", r"trainer(\.\d+)?/0", "TrainerRank.step", "step"),
)
"""What is killed, its actor's name, the method that it is killed in, and what the journal calls that work."""
LOSS_NATS = 0.02
"""Between the losses of two runs that vLLM draws for, at each step."""


class Scene:
    """A service, the spec of a run with two of each, and where the same run lies that nothing happened to."""

    def __init__(self, service: Service, spec: dict[str, Any], reference: Path) -> None:
        self.service, self.spec, self.reference = service, spec, reference

    @property
    def engine(self) -> str:
        return str(self.spec["sampling"]["engine"])

    @property
    def shards(self) -> int:
        """Of an iteration."""
        return SHARDS[self.engine]

    def tell(self, figures: str) -> None:
        print(f"\nFIGURES {self.engine}: {figures}")

    def disturbed(self) -> tuple[str, dict[str, Any]]:
        """A run that has lost one after the other, each after it had recovered from the loss before; prints the figures."""
        run_id = begun(self.service, self.spec)
        root = self.service.root(run_id)
        for name, role, method, stage in VICTIMS:
            before = tally(root).replayed
            kill = strike(self.service, run_id, role, method)
            replaced_s, work_s = at_work_s(self.service, run_id, kill), next_work_s(root, kill, stage)
            self.tell(
                f"{name} | a new process in the same work after {replaced_s:.1f} s | {stage} finished after {work_s:.1f} s | "
                f"steps replayed {tally(root).replayed - before}"
            )
        return run_id, self.service.until(run_id, "succeeded", within_s=240)


@pytest.fixture(params=["transformers", "vllm"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    if request.param == "vllm" and vllm_fault() is not None:
        pytest.skip(f"{vllm_fault()}")
    (world := tmp_path / "world").mkdir()
    engine = str(request.param)
    hidden = 32 if engine == "transformers" else 128
    spec = make_world(world, judge_s=JUDGE_S[engine], prompts=2 * 8 * SHARDS[engine], hidden=hidden)
    spec["sampling"]["engine"] = engine
    spec["resources"] |= TWO_OF_EACH
    if engine == "vllm":
        del spec["data"]["evaluation"]  # whose base would be a third engine
        spec["resources"]["max_shards_in_flight"] = 2
    reference = undisturbed(world, spec)
    (secrets := tmp_path / "secrets.json").write_text(json.dumps({"HIDDEN": CANARY}))
    with serving(tmp_path / "storage", world, "--secrets-file", str(secrets), "--lease-s", str(LEASE_S)) as service:
        yield Scene(service, spec, reference)


def test_a_run_that_loses_an_engine_a_judge_and_ranks_in_turn_ends_right(scene: Scene) -> None:
    run_id, run = scene.disturbed()
    service, root = scene.service, scene.service.root(run_id)
    assert run["attempt"] == 1
    assert faults_of(service.storage, service.database_url, run_id, canary=CANARY) == []
    assert Counter(e["role"] for e in of_kind(root, "ActorReplaced")) == {"policy/0": 1, "judge/1": 1, "trainer": 2}
    steps = 2 * scene.shards
    assert made(root) == {(t, stage, k): 1 for t in (1, 2) for stage in STAGES for k in range(scene.shards)}
    assert steps_of_lineage(root) == [(t, s) for t in (1, 2) for s in range(1, scene.shards + 1)]
    assert sorted(e["total_step"] for e in of_kind(root, "StepDone") if not e["replayed"]) == list(range(1, steps + 1))
    told_of = sum(e["replayed"] for e in of_kind(root, "StepDone"))
    assert of_kind(root, "RunFinished")[-1]["replayed_steps"] == told_of <= 2 * 2  # deaths, checkpoint_every_steps
    scene.tell(f"the run | steps {steps} | replayed {told_of} | drawn again 0 | twice in lineage 0")
    same_result(scene, root / "attempts" / "0001")
    assert soon(lambda: leftovers(service), within_s=30) == []


def of_kind(root: Path, kind: str) -> list[dict[str, Any]]:
    return [e for e in told(root) if e["type"] == kind]


def made(root: Path) -> Counter[tuple[int, str, int]]:
    """How often each table of the training was made."""
    done = [e for e in of_kind(root, "ShardDone") if e["fresh"] and e["stage"] in STAGES]
    return Counter((e["iteration"], e["stage"], e["shard"]) for e in done)


def steps_of_lineage(root: Path) -> list[tuple[int, int]]:
    checkpoints = LocalStorage(root, 1).checkpoints()
    return [(i, s) for c in lineage(checkpoints, checkpoints[-1]) for i, s, _ in c.ledger]


def same_result(scene: Scene, folder: Path) -> None:
    """The bits of the undisturbed run; where vLLM draws, its losses."""
    tier = json.loads((folder / "result.json").read_text())["tier"]
    if scene.engine == "transformers":
        assert (tier, model_digest(folder)) == ("exact", model_digest(scene.reference))
        return
    losses, expected = (pq.read_table(f / "metrics.parquet")["loss"].to_pylist() for f in (folder, scene.reference))
    apart = max(abs(a - b) for a, b in zip(losses, expected, strict=True))
    scene.tell(f"losses at most {apart:.1e} nats from those of the undisturbed run")
    assert tier == "replay"
    assert apart <= LOSS_NATS
