"""Streamed against staged: `layout: dedicated` overlaps drawing, judging and training, `layout: colocated` takes turns.

    python benchmarks/overlap.py [--rounds 2] [--json FILE]

Two runs of each layout take turns (A B A B), once with a judge that answers at once and once with one that waits for an HTTP
server which sleeps, as a judge elsewhere does: on two cores only waiting leaves anything to overlap with. Timed is from the
first iteration's start to the last step, by the journal. Both layouts must commit the same preferences, bit for bit.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow.parquet as pq
import yaml
from race_task import SHORT, build

from xpo_ray.reporting import read_journals

LAYOUTS = ("dedicated", "colocated")
SLEEP_S = 0.25
"""What the distant judge takes for a prompt; it answers several at a time."""
JUDGE = '''"""The share of even words; with a port, after an answer of the server there."""

import asyncio
import urllib.request

PORT = {port}


async def score(prompt, responses):
    if PORT:
        await asyncio.to_thread(lambda: urllib.request.urlopen(f"http://127.0.0.1:{{PORT}}/").read())
    return [sum(int(w[1:]) % 2 == 0 for w in r.split()) / len(r.split()) for r in responses]
'''


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    out: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, distant() as port:
        task = replace(SHORT, updates=8)
        build(Path(folder) / "task", task)
        for kind, at in (("at once", 0), (f"after {SLEEP_S} s elsewhere", port)):
            out[kind] = raced(Path(folder), at, arguments.rounds)
            print(f"judge answers {kind}: {_line(out[kind])}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(out, indent=1))


def raced(folder: Path, port: int, rounds: int) -> dict[str, Any]:
    """Seconds of each layout, and whether they committed the same preferences."""
    (folder / f"judge_{port}.py").write_text(JUDGE.format(port=port))
    seconds: dict[str, list[float]] = {layout: [] for layout in LAYOUTS}
    hashes: set[str] = set()
    for lap in range(rounds):
        for layout in LAYOUTS:
            root = run(folder, layout, port, lap)
            seconds[layout].append(timed(root))
            hashes.add(preferences(root))
            shutil.rmtree(root)
    if len(hashes) != 1:
        raise SystemExit("the layouts committed different preferences")
    return {layout: median(values) for layout, values in seconds.items()} | {"all": seconds}


def run(folder: Path, layout: str, port: int, lap: int) -> Path:
    """One run in the foreground; returns its folder."""
    root = folder / f"{layout}-{port}-{lap}"
    spec = folder / f"{root.name}.yaml"
    spec.write_text(yaml.safe_dump(_spec(folder, root, layout, port)))
    command = [sys.executable, "-c", "from xpo_ray.cli import main; main()", "run", str(spec)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    return root


def _spec(folder: Path, root: Path, layout: str, port: int) -> dict[str, Any]:
    task = folder / "task"
    return {
        "name": f"overlap-{layout}",
        "seed": 0,
        "model": {"path": str(task / "model")},
        "data": {"source": {"kind": "files", "path": str(task / "prompts.jsonl")}, "partitions": 2, "shard_size": 16},
        "algorithm": {"kind": "online_dpo"},
        "sampling": {"max_new_tokens": SHORT.new_tokens, "min_new_tokens": SHORT.new_tokens},
        "judge": {"kind": "python", "function": f"judge_{port}:score"},
        "training": {"learning_rate": 1e-4, "batch_size": 32},
        "resources": {"layout": layout, "dashboard": False},
        "output": {"path": str(root)},
    }


def timed(root: Path) -> float:
    """Seconds from the first iteration's start to the last step."""
    events = list(read_journals(root))
    start = next(e["at"] for e in events if e["type"] == "IterationStarted")
    return float(max(e["at"] for e in events if e["type"] == "StepDone") - start)


def preferences(root: Path) -> str:
    """sha256 over all committed preferences, judge's provenance included."""
    sha = hashlib.sha256()
    for path in sorted((root / "attempts" / "0001" / "tables").glob("*/preferences/*.parquet")):
        sha.update(json.dumps(pq.read_table(path).to_pylist()).encode())
    return sha.hexdigest()


@contextmanager
def distant() -> Iterator[int]:
    """A server that takes its time; yields its port."""

    class Sleeps(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(SLEEP_S)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Sleeps)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()


def _line(found: dict[str, Any]) -> str:
    a, b = (found[layout] for layout in LAYOUTS)
    return f"streamed {a:.1f} s, staged {b:.1f} s, staged / streamed {b / a:.2f}; equal preferences"


if __name__ == "__main__":
    main()
