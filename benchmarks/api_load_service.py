"""The service under load, as its users start it: `xpo-ray serve` in a process of its own, on an empty folder.

api_load.py starts it and asks; its Ray address is one at which nobody listens, so that every run stays in the queue.
"""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

from api_load_callers import Caller

NOBODY = "http://127.0.0.1:9"
WIDE = {
    "XPO_RAY_LIMITS__REQUESTS_PER_MINUTE": "100000000",
    "XPO_RAY_LIMITS__STREAMS_PER_KEY": "10000",
    "XPO_RAY_LIMITS__QUEUED_RUNS": "1000000",
    "XPO_RAY_DISK_FLOOR_MIB": "0",
}
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Served:
    """A service that answers."""

    pid: int
    port: int
    key: str
    world: Path

    def cpu_s(self) -> float:
        """Seconds of CPU that the API process has taken."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """One request on a connection of its own."""
        caller = await Caller.connected(self.port)
        try:
            return await caller.ask(request)
        finally:
            caller.close()


@contextmanager
def serving(folder: Path, postgres: str | None) -> Iterator[Served]:
    """A service with a small world below the folder; ended with the block."""
    world, storage, port = folder / "world", folder / "storage", _free_port()
    (world / "base").mkdir(parents=True)
    (world / "base" / "config.json").write_text("{}")
    (world / "train.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    storage.mkdir()
    key_file = storage / "admin.key"
    command = [sys.executable, "-c", "from xpo_ray.cli import main; main()", "serve", "--port", str(port)]
    command += ["--storage", str(storage), "--admin-key-file", str(key_file), "--ray-address", NOBODY]
    command += ["--root", str(world), "--plugin", "vowels:score"] + (["--database-url", postgres] if postgres else [])
    with (folder / "api.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **WIDE}, start_new_session=True)
    try:
        _until_ready(process, port, folder / "api.log")
        yield Served(process.pid, port, key_file.read_text().strip(), world)
    finally:
        process.terminate()
        process.wait(60)


def submission(world: Path) -> dict[str, Any]:
    """What is submitted: a SELM run over the small world."""
    return {
        "spec": {
            "name": "tiny",
            "seed": 0,
            "model": {"path": str(world / "base")},
            "data": {"source": {"kind": "files", "path": str(world / "train.jsonl")}, "partitions": 3},
            "algorithm": {"kind": "selm", "beta": 0.1, "alpha": 0.01},
            "sampling": {"max_new_tokens": 64},
            "judge": {"kind": "python", "function": "vowels:score"},
            "training": {"learning_rate": 2.0e-4, "batch_size": 16},
        },
        "metadata": {"team": "load"},
    }


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _until_ready(process: subprocess.Popen[bytes], port: int, log: Path, within_s: float = 600) -> None:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"the service ended with {process.returncode}:\n{log.read_text()[-3000:]}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.1)
    raise SystemExit(f"the service was not ready in {within_s} s:\n{log.read_text()[-3000:]}")
