"""What a disturbed run is held to: it succeeds, nothing is wrong with it, its weights are those of an undisturbed run; and what
the disturbance cost.

The fault tests begin a run here, disturb it in their own way, and end with `recovered`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.patience import Deadline
from tests.running import model_digest
from tests.service.invariants import faults_of, new_work_s, tally, told
from tests.service.serving import Service
from tests.service.worlds import make_world, undisturbed

CANARY = "canary-7f3a9c21e5"
LEASE_S = 10


@dataclass(frozen=True)
class World:
    """Model, data and judge in a folder; what is submitted; and the weights that must come out."""

    folder: Path
    spec: dict[str, Any]
    digest: str

    @classmethod
    def of(cls, folder: Path, *, judge_s: float) -> "World":
        spec = make_world(folder, judge_s=judge_s)
        return cls(folder, spec, model_digest(undisturbed(folder, spec)))

    def spec_with(self, **changes: dict[str, Any]) -> dict[str, Any]:
        """The spec with some keys of its parts changed."""
        return {**self.spec, **{part: {**self.spec[part], **values} for part, values in changes.items()}}


@dataclass(frozen=True)
class Disturbance:
    """Something that is done to a run at a moment, and its name."""

    name: str
    run_id: str
    attempt: int
    at: float = field(default_factory=time.time)


def begun(service: Service, spec: dict[str, Any], steps: int = 1) -> str:
    """A run that has done its first steps, by its journal: the service hears of them later."""
    run_id = service.submit(spec, secrets=["HIDDEN"])
    deadline = Deadline(180)
    while sum(e["type"] == "StepDone" for e in told(service.root(run_id))) < steps:
        assert deadline.ahead, service.words()
        time.sleep(0.1)
    return run_id


def struck(service: Service, run_id: str, name: str) -> Disturbance:
    """The moment before a disturbance."""
    return Disturbance(name, run_id, service.run(run_id)["attempt"])


def recovered(service: Service, world: World, disturbance: Disturbance) -> dict[str, Any]:
    """The run once it has succeeded, after all checks; prints the figures."""
    run = service.until(disturbance.run_id, "succeeded", within_s=300)
    root = service.root(disturbance.run_id)
    cost = tally(root)
    after_s = new_work_s(root, disturbance.at, disturbance.attempt)
    resumed = cost.attempts > 1 or cost.replaced > 0
    print(
        f"\nFIGURES {disturbance.name} | runs 1 | resumed {int(resumed)} | attempts {cost.attempts} | actors replaced "
        f"{cost.replaced} | drawn again {cost.drawn_again} | twice in lineage {cost.twice_in_lineage} | replayed "
        f"{cost.replayed} | new work after {'-' if after_s is None else format(after_s, '.1f')} s"
    )
    assert faults_of(service.storage, service.database_url, disturbance.run_id, canary=CANARY) == []
    assert model_digest(root / "attempts" / f"{run['attempt']:04d}") == world.digest
    assert (cost.drawn_again, cost.twice_in_lineage) == (0, 0)
    assert soon(lambda: _left(root, run["attempt"])) == []
    return run


def soon(left: Callable[[], list[str]], within_s: float = 10) -> list[str]:
    """What is still left, or not as it should be, some moments after the end."""
    deadline = Deadline(within_s)
    while (found := left()) and deadline.ahead:
        time.sleep(0.2)
    return found


def _left(root: Path, attempt: int) -> list[str]:
    """What only further attempts would read, an unconfirmed result."""
    kept = [str(p.relative_to(root)) for p in root.rglob("*") if p.name in ("ticket", "prompts")]
    confirmed = (root / "attempts" / f"{attempt:04d}" / "result.json").exists()
    return [*kept, *([] if confirmed else ["the result is not confirmed"])]


def reasons(service: Service, run_id: str) -> list[str]:
    """Why actors of a run were replaced, as the journals tell it."""
    return [f"{e['role']}: {e['reason']}" for e in told(service.root(run_id)) if e["type"] == "ActorReplaced"]
