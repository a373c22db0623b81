"""One run of benchmarks/scale.py, in a process of its own: the true driver, with its memory sampled from beginning to end.

    python benchmarks/scale_lap.py SPEC FIGURES.json [--without-commits]

Anonymous memory is what the process holds itself; pages of mapped files are the kernel's to drop, and are told apart.
"""

import argparse
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

from scale_actors import ForgetfulClerk, InstantJudge, InstantModel, InstantTrainer

from xpo_ray.actors.cast import Cast
from xpo_ray.actors.clerk import ClerkActor
from xpo_ray.actors.driver import run_foreground
from xpo_ray.preparation import prepare
from xpo_ray.reporting import Event, StepDone
from xpo_ray.spec.loading import load_spec

EVERY_S = 0.5
MIB = 1 << 20


class Watch:
    """Samples this process's memory in a thread, and hears the steps of the run."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.began = time.monotonic()
        self.phase = "prepare"
        self.prompts = 0
        self.samples: list[dict[str, Any]] = []
        self.steps: list[float] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def emit(self, event: Event) -> None:
        if isinstance(event, StepDone):
            self.prompts += self.batch
            self.steps.append(time.monotonic() - self.began)

    def end(self) -> None:
        """Take the last sample."""
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        ended = False
        while not ended:
            ended = self._ended.wait(EVERY_S)
            seconds = round(time.monotonic() - self.began, 2)
            self.samples.append({"s": seconds, "phase": self.phase, "prompts": self.prompts, **memory()})


def memory() -> dict[str, float]:
    """MiB of this process: anonymous, all that is resident, and what no other process shares (USS)."""
    status, rollup = (_kib(Path(f"/proc/self/{name}").read_text()) for name in ("status", "smaps_rollup"))
    kib = {
        "anonymous": status["RssAnon"],
        "resident": status["VmRSS"],
        "private": rollup["Private_Clean"] + rollup["Private_Dirty"],
    }
    return {name: round(value * 1024 / MIB, 1) for name, value in kib.items()}


def _kib(text: str) -> dict[str, int]:
    return {
        name: int(rest.split()[0]) for name, _, rest in (s.partition(":") for s in text.splitlines()) if "kB" in rest
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", type=Path)
    parser.add_argument("figures", type=Path)
    parser.add_argument("--without-commits", action="store_true")
    arguments = parser.parse_args()
    spec = load_spec(arguments.spec, [])
    clerk = ForgetfulClerk if arguments.without_commits else ClerkActor
    cast = Cast(model=InstantModel, judge=InstantJudge, trainer=InstantTrainer, clerk=clerk)
    before = memory()
    watch = Watch(spec.training.batch_size)
    prepared = prepare(spec, arguments.spec.parent)
    prepared_s, watch.phase = time.monotonic() - watch.began, "run"
    after = memory()
    run_foreground(prepared, resume=False, reporter=watch, cast=cast)
    watch.end()
    figures = {
        "prompts": prepared.schedule.prompts,
        "shard_size": spec.data.shard_size,
        "prepare_s": prepared_s,
        "run_s": time.monotonic() - watch.began - prepared_s,
        "imported": before,
        "prepared": after,
        "samples": watch.samples,
        "steps": watch.steps,
    }
    arguments.figures.write_text(json.dumps(figures))
    print(f"{figures['prompts']} prompts: prepare {prepared_s:.0f} s, run {figures['run_s']:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
