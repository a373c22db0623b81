"""A service for tests as its users start it: `xpo-ray serve` in a process of its own, on a Ray head of its own.

The head outlives the API's process; `stop` ends both, by their pids.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.patience import Deadline
from xpo_ray.run_states import FINAL

COMMAND = [sys.executable, "-c", "from xpo_ray.cli import main; main()"]


class Ended(AssertionError):
    """A service has ended before it was ready."""


@dataclass
class Service:
    """A service that may be killed and started again."""

    storage: Path
    world: Path
    """Folder with models, data and judges."""
    port: int
    database_url: str
    options: list[str] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def key(self) -> str:
        return (self.storage / "admin.key").read_text().strip()

    def start(self, *, probe: str = "/readyz", **environment: str) -> None:
        """Start the API; returns when it is ready, or when another probe answers well."""
        command = [*COMMAND, "serve", "--port", str(self.port), "--storage", str(self.storage)]
        command += ["--database-url", self.database_url, "--admin-key-file", str(self.storage / "admin.key")]
        command += ["--root", str(self.world), "--plugin", "vowels:score", "--plugin-path", str(self.world)]
        with (self.storage / "api.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *self.options],
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        self._until_ready(probe)

    def kill(self) -> None:
        """SIGKILL for the API, and for it alone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        """SIGTERM for the API; the head stays."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(60)

    def stop(self) -> None:
        """End the API and its head."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        subprocess.run([*COMMAND, "serve", "--storage", str(self.storage), "--stop-ray"], check=False, timeout=60)

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request with the admin key."""
        headers = {"Authorization": f"Bearer {self.key}", **options.pop("headers", {})}
        return httpx.request(method, self.url + path, headers=headers, timeout=120, **options)

    def submit(self, spec: dict[str, Any], **more: Any) -> str:
        """Submit a run; returns its id."""
        answer = self.call("POST", "/v1/runs", json={"spec": spec, **more})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def run(self, run_id: str) -> dict[str, Any]:
        answer = self.call("GET", f"/v1/runs/{run_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def until(self, run_id: str, *statuses: str, within_s: float = 180) -> dict[str, Any]:
        """The run when it is in one of the statuses. Fails where it became final in another."""
        deadline = Deadline(within_s)
        while deadline.ahead:
            try:
                run = self.run(run_id)
            except httpx.TransportError:
                time.sleep(0.5)
                continue
            if run["status"] in statuses:
                return run
            assert run["status"] not in FINAL, f"{run['status']}: {json.dumps(run['error'])}"
            time.sleep(0.3)
        raise AssertionError(f"still {run['status']} after {within_s} s: {json.dumps(run, indent=1)}\n{self.words()}")

    def words(self) -> str:
        """The API's last words."""
        return (self.storage / "api.log").read_text()[-4000:]

    def root(self, run_id: str) -> Path:
        return self.storage / "runs" / run_id

    def actors(self) -> list[dict[str, Any]]:
        """The actors of the head as Ray's state tells them; the driver of a run made those below `<run>/<attempt>/`."""
        record = json.loads((self.storage / "ray" / "head.json").read_text())
        token = (self.storage / "ray" / "token").read_text().strip()
        address = f"http://127.0.0.1:{record['dashboard_port']}/api/v0/actors?limit=10000&detail=1"
        answer = httpx.get(address, headers={"Authorization": f"Bearer {token}"}, timeout=30)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["data"]["result"]["result"]
        return found

    def _until_ready(self, probe: str, within_s: float = 60) -> None:
        assert self.process is not None
        deadline = Deadline(within_s)
        while deadline.ahead:
            if self.process.poll() is not None:
                raise Ended(f"the service ended with {self.process.returncode}:\n{self.words()}")
            try:
                if httpx.get(self.url + probe, timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"the service was not ready in {within_s} s:\n{self.words()}")


@contextmanager
def serving(storage: Path, world: Path, *options: str, database_url: str | None = None) -> Iterator[Service]:
    """A service that is ready; it and its head are ended with the block."""
    storage.mkdir(parents=True, exist_ok=True)
    url = database_url or f"sqlite:///{storage / 'xpo_ray.sqlite'}"
    service = Service(storage, world, free_port(), url, list(options))
    try:
        service.start()
        yield service
    finally:
        service.stop()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def driver_pid(service: Service, run_id: str) -> int:
    """The process of the driver of a run's newest attempt, as its record tells it."""
    attempt = service.run(run_id)["attempt"]
    record = service.root(run_id) / "attempts" / f"{attempt:04d}" / "attempt.json"
    return int(json.loads(record.read_text())["pid"])


def actor_pid(service: Service, run_id: str, role: str) -> int:
    """The process of a living actor of a run: `policy/0`, `judge/0`, `trainer`."""
    name = re.compile(rf"{run_id}/\d+/{role}(\.\d+)?")
    pids = [a["pid"] for a in service.actors() if a["state"] == "ALIVE" and name.fullmatch(a["name"] or "")]
    assert len(pids) == 1, f"{len(pids)} actors are {role} of {run_id}"
    return int(pids[0])


def processes(title: str) -> list[int]:
    """Processes whose command line holds a text: Ray names its workers after their actors' classes."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and title in (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def lives(pid: int) -> bool:
    """Whether there is such a process, and it is more than its remains."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
