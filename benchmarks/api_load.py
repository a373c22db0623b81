"""How much the service carries: reads, submissions and event streams of one API process on SQLite, no run active.

    python benchmarks/api_load.py [--rounds 2] [--seconds 5] [--postgres URL] [--json FILE]

Each round starts `xpo-ray serve` anew on an empty folder, with limits that do not bind and a cluster that does not answer, so
that runs stay queued. The callers are in this process, on raw keep-alive connections; warm-up is left out. Reads are asked for
while nothing is queued and again with 1,000 runs queued; CPU per request is the API process's own, by /proc.
"""

import argparse
import asyncio
import json
import tempfile
from pathlib import Path
from statistics import median

from api_load_callers import Load, get, post, pressed
from api_load_service import Served, serving, submission
from api_load_streams import followed

CALLERS = 16
FEW = 50
"""Runs that are read while the queue is empty: submitted for warm-up, then cancelled."""
QUEUED = 1000
GOALS = {"reads/s": "≥ 1,500", "read p99 ms": "< 50", "creates/s": "≥ 300", "create p99 ms": "< 100", "SSE gaps": "0"}
GOALS |= {"read p99, 1,000 queued / none": "≤ 1.5", "create p99, 1,000 queued / none": "≤ 1.5"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement of reads")
    parser.add_argument("--clients", type=int, default=500, help="event streams; 0 leaves them out")
    parser.add_argument("--postgres", help="URL of an empty database, instead of SQLite; one round")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rounds = [one(arguments) for _ in range(1 if arguments.postgres else arguments.rounds)]
    show(rounds)
    if arguments.json:
        arguments.json.write_text(json.dumps(rounds, indent=1))


def one(arguments: argparse.Namespace) -> dict[str, float]:
    """One round on a service of its own."""
    with tempfile.TemporaryDirectory(prefix="api-load-") as folder, serving(Path(folder), arguments.postgres) as served:
        try:
            import uvloop
        except ImportError:
            return asyncio.run(measured(served, arguments))
        return uvloop.run(measured(served, arguments))


async def measured(served: Served, arguments: argparse.Namespace) -> dict[str, float]:
    """All figures of a round."""
    few = await created(served, FEW)
    for run_id in few.ids:
        await served.ask(post(served, f"/v1/runs/{run_id}/cancel"))
    reads = await read(served, few.ids, arguments.seconds)
    creates = await created(served, QUEUED)
    reads_queued = await read(served, creates.ids, arguments.seconds)
    creates_queued = await created(served, QUEUED // 2)
    found = {
        "reads/s": reads.per_second,
        "read p50 ms": reads.ms(50),
        "read p99 ms": reads.ms(99),
        "CPU ms per read": reads.cpu_ms,
        "reads/s, 1,000 queued": reads_queued.per_second,
        "read p99 ms, 1,000 queued": reads_queued.ms(99),
        "read p99, 1,000 queued / none": reads_queued.ms(99) / reads.ms(99),
        "creates/s": creates.per_second,
        "create p50 ms": creates.ms(50),
        "create p99 ms": creates.ms(99),
        "CPU ms per create": creates.cpu_ms,
        "creates/s, 1,000 queued": creates_queued.per_second,
        "create p99, 1,000 queued / none": creates_queued.ms(99) / creates.ms(99),
    }
    return found | (await followed(served, creates.ids[:10], arguments.clients) if arguments.clients else {})


async def read(served: Served, ids: list[str], seconds: float) -> Load:
    """GET /v1/runs/{id} over and over."""
    requests = [get(served, f"/v1/runs/{run_id}") for run_id in ids]
    await pressed(served, CALLERS, lambda n: requests[n % len(requests)], seconds=1.0)
    return await pressed(served, CALLERS, lambda n: requests[n * 7 % len(requests)], seconds=seconds)


async def created(served: Served, count: int) -> Load:
    """POST /v1/runs, each with an Idempotency-Key, as the client sends it."""
    body = json.dumps(submission(served.world)).encode()
    load = await pressed(served, CALLERS, lambda _: post(served, "/v1/runs", body, once=True), count=count)
    if set(load.statuses) != {201}:
        raise SystemExit(f"submissions were refused: {load.statuses}: {load.last[-300:]!r}")
    return load


def show(rounds: list[dict[str, float]]) -> None:
    """The table: each round, the median, the goal."""
    print(f"| | {' | '.join(f'round {n + 1}' for n in range(len(rounds)))} | median | goal |")
    print("|---|" + "---|" * (len(rounds) + 2))
    for name in rounds[0]:
        values = [each[name] for each in rounds]
        cells = " | ".join(f"{v:,.2f}" for v in [*values, median(values)])
        print(f"| {name} | {cells} | {GOALS.get(name, '')} |")


if __name__ == "__main__":
    main()
