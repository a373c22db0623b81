"""Tokens per second that the engines draw on this machine's cores: transformers beside vLLM, each in processes of its own; and
the same small run with each.

    python benchmarks/engines.py [--rows 32 128 512] [--laps 3] [--runs 2] [--json FILE]

A Llama of 3.7 M parameters with untrained weights, prompts of 24 tokens, 64 new tokens each, sampled at temperature 1. The
rows are shared out over the processes of a side; the sides take turns, and the table shows the median of each and all laps.
Then `--runs` runs of the demo's SELM with each engine, in turns. `--laps 0` or `--runs 0` leaves one part out.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from decode import Case, new_model, prompts_of
from engine_runs import Ran, measured_runs, plain, table

from xpo_ray.generation.engine import Drawn, Engine, Sampling

PROMPT, NEW, VOCABULARY = 24, 64, 1024
SAMPLING = Sampling(1.0, 1.0, None, NEW, min_new_tokens=NEW)
"""No row ends before it has all its tokens."""
END = (0,)


@dataclass(frozen=True)
class Side:
    """An engine in so many processes, each with so many threads."""

    engine: str
    processes: int
    threads: int

    @property
    def name(self) -> str:
        return f"{self.engine}, {self.processes} × {self.threads}"


def sides(cores: int) -> tuple[Side, ...]:
    return Side("transformers", cores, 1), Side("vllm", 1, cores), Side("vllm", cores, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[32, 128, 512])
    parser.add_argument("--laps", type=int, default=3)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    drawn = draws(arguments.rows, arguments.laps) if arguments.laps else {}
    ran = runs(arguments.runs) if arguments.runs else {}
    if arguments.json:
        arguments.json.write_text(json.dumps({"draws": drawn, "runs": plain(ran)}, indent=1))


def draws(rows: Sequence[int], laps: int) -> dict[int, dict[str, list[float]]]:
    """Tokens per second of every lap, told."""
    with tempfile.TemporaryDirectory(prefix="engines-") as folder:
        new_model(Case("engines", 1, PROMPT, NEW, VOCABULARY)).save_pretrained(folder)
        found = measured(folder, rows, laps)
    for n, sides_laps in found.items():
        for name, rates in sides_laps.items():
            each = ", ".join(f"{rate:,.0f}" for rate in rates)
            print(f"{n:4d} rows  {name:22s} {statistics.median(rates):8,.0f} tokens/s ({each})")
    return found


def runs(laps: int) -> dict[str, list[Ran]]:
    """Whole runs, told."""
    with tempfile.TemporaryDirectory(prefix="engine-runs-") as folder:
        found = measured_runs(Path(folder), laps)
    print(table(found))
    return found


def measured(folder: str, rows: Sequence[int], laps: int) -> dict[int, dict[str, list[float]]]:
    """Tokens per second of every lap, by rows and side."""
    with ExitStack() as stack:
        running = {
            side.name: [stack.enter_context(process(side, folder)) for _ in range(side.processes)]
            for side in sides(os.cpu_count() or 1)
        }
        for workers in running.values():
            lap(workers, max(rows), 0)
        return {n: _taking_turns(running, n, laps) for n in rows}


def _taking_turns(running: dict[str, list[ProcessPoolExecutor]], rows: int, laps: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in running}
    for number in range(1, laps + 1):
        for name, workers in running.items():
            found[name].append(lap(workers, rows, number))
    return found


def lap(workers: Sequence[ProcessPoolExecutor], rows: int, seed: int) -> float:
    """Tokens per second of one draw of so many rows."""
    prompts = prompts_of(Case("engines", rows, PROMPT, NEW, VOCABULARY))
    seeds = [seed * 1_000_000 + i for i in range(rows)]
    began = time.monotonic()
    shares = [w.submit(draw, prompts[k :: len(workers)], seeds[k :: len(workers)]) for k, w in enumerate(workers)]
    drawn = [one for share in shares for one in share.result()]
    seconds = time.monotonic() - began
    assert all(len(one.ids) == NEW for one in drawn)
    return rows * NEW / seconds


_engine: list[Engine] = []


def process(side: Side, folder: str) -> ProcessPoolExecutor:
    """A process with one engine."""
    os.environ["OMP_NUM_THREADS"] = str(side.threads)
    started = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _make, (side, folder))
    started.submit(os.getpid).result()  # it takes the environment as it is now
    return started


def _make(side: Side, folder: str) -> None:
    import torch

    torch.set_num_threads(side.threads)
    if side.engine == "vllm":
        from xpo_ray.generation.vllm import VllmEngine, VllmSettings

        _engine.append(VllmEngine(folder, VllmSettings("float32", PROMPT + NEW, 2**30), END))
    else:
        from xpo_ray.checkpoints import load_model
        from xpo_ray.generation.transformers import TransformersEngine
        from xpo_ray.linear import through_onednn

        model = load_model(folder, "float32")
        through_onednn(model, frozen=True)
        _engine.append(TransformersEngine(model, END))


def draw(prompts: Sequence[Sequence[int]], seeds: Sequence[int]) -> list[Drawn]:
    return _engine[0].draw(prompts, seeds, SAMPLING)


if __name__ == "__main__":
    main()
