"""The same small SELM run with each engine, in turns: the demo's base, data, judge and settings, through `xpo-ray run`.

benchmarks/engines.py calls it. What a run tells of itself is read from its journal, its profile and its result.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from xpo_ray.demo.make import make_world
from xpo_ray.demo.recipes import demo_spec
from xpo_ray.profile import PROFILE
from xpo_ray.reporting import read_journals

ENGINES = ("transformers", "vllm")
COMMAND = [sys.executable, "-c", "from xpo_ray.cli import main; main()"]


@dataclass(frozen=True)
class Ran:
    """One run, from its driver's start to its result."""

    seconds: float
    starting: float
    """Until the engines of the policy had their first weights."""
    prompts: int
    tokens: int
    """Drawn to train on."""
    drawing: float
    """Seconds that the mean engine of the policy drew these tokens."""
    reward: float
    """Held out, of the last iterate."""
    interval: float
    """Half of the 95 % interval of `reward`."""

    @property
    def prompts_per_s(self) -> float:
        return self.prompts / self.seconds

    @property
    def warm_prompts_per_s(self) -> float:
        """Without the start."""
        return self.prompts / (self.seconds - self.starting)

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.drawing


def measured_runs(folder: Path, laps: int) -> dict[str, list[Ran]]:
    """`laps` runs with each engine, A B A B."""
    make_world(folder)
    found: dict[str, list[Ran]] = {engine: [] for engine in ENGINES}
    for lap in range(laps):
        for engine in ENGINES:
            found[engine].append(_run(folder, engine, lap))
    return found


def table(found: dict[str, list[Ran]]) -> str:
    """One row for each engine: medians, and the rewards of all laps."""
    head = ("engine", "run, s", "start, s", "prompts/s", "without the start", "tokens/s drawn", "held-out reward")
    lines = ["  ".join(f"{name:>17s}" for name in head)]
    for engine, laps in found.items():
        medians = [_median(laps, n) for n in ("seconds", "starting", "prompts_per_s", "warm_prompts_per_s")]
        drawn = f"{_median(laps, 'tokens_per_s'):,.0f}"
        rewards = ", ".join(f"{one.reward:.2f} ± {one.interval:.2f}" for one in laps)
        lines.append("  ".join(f"{cell:>17s}" for cell in (engine, *(f"{m:.2f}" for m in medians), drawn, rewards)))
    return "\n".join(lines)


def plain(found: dict[str, list[Ran]]) -> dict[str, list[dict[str, Any]]]:
    """For JSON."""
    return {engine: [asdict(one) for one in laps] for engine, laps in found.items()}


def _median(laps: Sequence[Ran], name: str) -> float:
    return statistics.median(getattr(one, name) for one in laps)


def _run(folder: Path, engine: str, lap: int) -> Ran:
    name = f"{engine}-{lap}"
    spec = demo_spec("selm")
    spec |= {"name": name, "output": {"path": f"./{name}"}, "resources": {"dashboard": False}}
    spec["sampling"]["engine"] = engine
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(spec))
    done = subprocess.run([*COMMAND, "run", str(path), "--profile"], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"the run with {engine} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return read_run(folder / name)


def read_run(root: Path) -> Ran:
    """What a finished run says of itself."""
    events = list(read_journals(root))
    started, ended = (next(e for e in events if e["type"] == kind) for kind in ("RunStarted", "RunFinished"))
    served = next(e for e in events if e["type"] == "WeightsServed" and e["role"] == "policy")
    drawn = [e for e in events if e["type"] == "ShardDone" and e["stage"] == "candidates"]
    evaluated = [e["metrics"] for e in events if e["type"] == "EvaluationDone"][-1]
    profile = json.loads((root / "attempts" / "0001" / PROFILE).read_text())
    drawing = [role["work"].get("draw", 0.0) for role in profile["roles"] if role["role"].startswith("policy/")]
    return Ran(
        seconds=ended["seconds"],
        starting=served["at"] - started["at"],
        prompts=sum(e["prompts"] for e in drawn),
        tokens=int(sum(e["counts"]["tokens"] for e in drawn)),
        drawing=statistics.mean(drawing),
        reward=evaluated["reward"],
        interval=(evaluated["reward/high"] - evaluated["reward/low"]) / 2,
    )
