"""`python -m xpo_ray.actors.attempt`: the entry point of a Ray Job, one attempt at a run of the service.

It claims the attempt, works as a foreground run does, and tells the service how it ended. Its arguments, its environment and
its runtime_env are for everybody to see: secrets come with the claim alone. SIGTERM pauses: what is under way is committed.

Exit codes: 0 the attempt did what was wanted, 1 it failed or could not go on, 3 it was refused or superseded.
"""

import argparse
import os
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from xpo_ray.courier import Courier, claim_attempt
from xpo_ray.crashpoints import crash_point
from xpo_ray.errors import Cancelled, NeedsAttention, Paused, ServiceRefused, Superseded
from xpo_ray.failures import lasting, run_error
from xpo_ray.results import Result, confirm_result


@dataclass(frozen=True)
class Place:
    """Which attempt this is, and where."""

    api: str
    run_id: str
    number: int
    root: Path

    @classmethod
    def parse(cls, words: list[str]) -> "Place":
        parser = argparse.ArgumentParser(prog="python -m xpo_ray.actors.attempt")
        parser.add_argument("--api", required=True)
        parser.add_argument("--run", required=True)
        parser.add_argument("--attempt", required=True, type=int)
        parser.add_argument("--root", required=True, type=Path)
        given = parser.parse_args(words)
        return cls(given.api, given.run, given.attempt, given.root)


def main() -> None:
    """Entry point."""
    for name in ("TRANSFORMERS_VERBOSITY", "DATASETS_VERBOSITY"):
        os.environ.setdefault(name, "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    place = Place.parse(sys.argv[1:])
    try:
        courier = claim_attempt(place.api, place.run_id, place.number, place.root)
    except ServiceRefused as error:
        print(f"not granted: {error}", file=sys.stderr)
        sys.exit(3)
    crash_point("driver.after_claim")
    signal.signal(signal.SIGTERM, lambda *_: courier.orders.give("pause"))
    _take_secrets(courier.granted.secrets)
    courier.start()
    sys.exit(attempt(place, courier))


def attempt(place: Place, courier: Courier) -> int:
    """Work, and tell the end; returns the exit code."""
    try:
        result = _work(place, courier)
        crash_point("driver.before_end")
        courier.end("succeeded", result=_told(place, result))
        crash_point("driver.after_end")
        confirm_result(result)
    except Superseded as error:
        courier.close()
        print(f"superseded: {error}", file=sys.stderr)
        return 3
    except (Paused, Cancelled) as error:
        return _end_with(courier, "paused" if isinstance(error, Paused) else "cancelled", None)
    except NeedsAttention as error:
        return _end_with(courier, "paused", error)
    except Exception as error:  # noqa: BLE001 - the edge of the job: whatever it was is told to the service
        return _end_with(courier, "failed" if lasting(error) else "died", error)
    return 0


def _work(place: Place, courier: Courier) -> Result:
    """The attempt itself, from the granted spec. Imports what is heavy only now, behind the claim."""
    from xpo_ray.actors.driver import run_attempt
    from xpo_ray.actors.placement import Cluster, join
    from xpo_ray.actors.ray_metrics import RayMetrics
    from xpo_ray.attempts import open_claimed
    from xpo_ray.exports.checks import check_exports
    from xpo_ray.preparation import prepare
    from xpo_ray.spec.run import RunSpec
    from xpo_ray.storage import LocalStorage

    if courier.orders.wanted != "run":
        raise courier.orders.stopped()
    spec = RunSpec.model_validate(courier.granted.spec)
    check_exports(spec.exports)
    prepared = prepare(spec, place.root)
    plain = spec.model_dump(mode="json")
    storage = LocalStorage(place.root, place.number, int(courier.granted.disk_reserve_mib * 2**20))
    entered = open_claimed(storage, place.run_id, prepared.identity, plain, prepared.record, prepared.remarks)

    def connected() -> Cluster:
        cluster = join(place.run_id)
        with suppress(ValueError):  # Ray puts a handler of its own
            signal.signal(signal.SIGTERM, lambda *_: courier.orders.give("pause"))
        return cluster

    return run_attempt(prepared, entered, RayMetrics(spec.name, place.run_id), connected, courier.orders)


def _take_secrets(secrets: dict[str, str]) -> None:
    from xpo_ray.actors.placement import SECRET_NAMES

    os.environ.update(secrets)
    os.environ[SECRET_NAMES] = ",".join(secrets)


def _told(place: Place, result: Result) -> dict[str, object]:
    return {
        "selected_iteration": result.selected,
        "tier": result.tier,
        "folder": str(result.root.relative_to(place.root)),
        "evaluation": {str(t): m for t, m in result.evaluation.items()},
    }


def _end_with(courier: Courier, ending: str, error: Exception | None) -> int:
    told = None if error is None else run_error(error)
    if told is not None:
        print(told.traceback, file=sys.stderr)
    try:
        courier.end(ending, told)  # type: ignore[arg-type]
    except Superseded as refused:
        print(f"superseded: {refused}", file=sys.stderr)
        return 3
    return 0 if error is None else 1


if __name__ == "__main__":
    assert threading.current_thread() is threading.main_thread()
    main()
