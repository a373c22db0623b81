"""The race against TRL's XPOTrainer: the same prompts, model, reward model, tokens, updates and settings, turn by turn.

    python benchmarks/against_trl.py [--quick] [--tasks short long] [--json FILE] [--plot FILE]

xpo_ray goes through `xpo-ray run`, TRL through its trainer in an environment of its own, which is made here. Figures are of
the steady state: imports, start and the first updates are left out on both sides. A quiet machine is needed: every process
that runs beside the race slows one side or the other.
"""

import argparse
import json
import os
import tempfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import race_trl
import race_xpo_ray
from race_flops import check, of_trl, of_xpo_ray, peak
from race_report import plot, show
from race_result import TRL, XPO_RAY, Race
from race_task import LONG, SHORT, Task, build
from rich.console import Console

TASKS = {"short": SHORT, "long": LONG}
ENVIRONMENT = Path(__file__).resolve().parent.parent / ".venv-trl"


def main() -> None:
    arguments = _arguments()
    if arguments.plot and find_spec("matplotlib") is None:
        raise SystemExit("--plot needs matplotlib: pip install -c constraints.txt -e '.[bench]'")
    folder = arguments.output or Path(tempfile.mkdtemp(prefix="against-trl-"))
    python = race_trl.ensure_environment(arguments.trl_venv)
    tasks = [_quick(TASKS[name]) if arguments.quick else TASKS[name] for name in arguments.tasks]
    rounds = 1 if arguments.quick else arguments.rounds
    races = [race(task, folder / task.name, python, rounds, arguments.threads) for task in tasks]
    show(races, Console())
    if arguments.json:
        arguments.json.write_text(json.dumps([r.figures() for r in races], indent=1))
    if arguments.plot:
        plot(races, arguments.plot)


def race(task: Task, folder: Path, python: Path, rounds: int, threads: int) -> Race:
    """Build the task, then A B A B; after the first laps the formulas of the operations are checked."""
    build(folder, task)
    result = Race(task, {XPO_RAY: of_xpo_ray(task), TRL: of_trl(task)})
    settings = race_xpo_ray.best_settings(task, threads)
    for lap in range(1, rounds + 1):
        result.peaks.append(peak(threads))
        output = folder / f"xpo-ray-{lap}"
        result.laps[XPO_RAY].append(race_xpo_ray.run_lap(folder, output, settings))
        _say(result, XPO_RAY, lap)
        result.peaks.append(peak(threads))
        result.laps[TRL].append(race_trl.run_lap(python, folder, folder / f"trl-{lap}.json", threads))
        _say(result, TRL, lap)
        if lap == 1:
            check_operations(task, folder, python, threads)
    return result


def check_operations(task: Task, folder: Path, python: Path, threads: int) -> None:
    """Exit where torch counts other operations than the formulas say."""
    check(XPO_RAY, of_xpo_ray(task), race_xpo_ray.count_operations(folder / "xpo-ray-1"))
    check(TRL, of_trl(task), race_trl.count_operations(python, folder, folder / "trl-counted.json", threads))
    print(f"{task.name}: the formulas give the operations that torch counts", flush=True)


def _say(result: Race, side: str, lap: int) -> None:
    kept = result.laps[side][-1]
    print(
        f"{result.task.name}, lap {lap}, {side}: {result.rates(side)[-1]:.2f} prompts/s "
        f"({kept.process_seconds:.0f} s with start and end)",
        flush=True,
    )


def _quick(task: Task) -> Task:
    return replace(task, updates=6, left_out=2, left_out_last=0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=sorted(TASKS), default=list(TASKS))
    parser.add_argument("--quick", action="store_true", help="one lap of 6 updates on each side")
    parser.add_argument("--rounds", type=int, default=2, help="laps of each side (default 2)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="cores that each side uses")
    parser.add_argument("--trl-venv", type=Path, default=ENVIRONMENT, help="folder of TRL's environment")
    parser.add_argument("--output", type=Path, help="folder for models and runs (default: a temporary one)")
    parser.add_argument("--json", type=Path, help="write all figures and laps")
    parser.add_argument("--plot", type=Path, help="write a picture, .svg or .png")
    return parser.parse_args()


if __name__ == "__main__":
    main()
