"""Ray's jobs over its REST interface, with a time limit on every call: Ray may be frozen, and the service must not freeze too.

(Ray's own client has no time limits, and importing it takes longer than the service's start.) The reconciler calls this.
"""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx

from xpo_ray.errors import XpoRayError

JobStatus = Literal["PENDING", "RUNNING", "STOPPED", "SUCCEEDED", "FAILED"]
ENDED: frozenset[str] = frozenset({"STOPPED", "SUCCEEDED", "FAILED"})
TIMEOUT_S = 10.0
SUBMIT_S = 60.0


class RayAway(XpoRayError):
    """Ray does not answer; what was asked of it may have happened or not."""


@dataclass(frozen=True)
class NewJob:
    """A job for one attempt; everything in it is for everybody to see."""

    submission_id: str
    name: str
    run_id: str
    attempt: int
    root: Path
    api: str
    variables: dict[str, str]

    def body(self) -> dict[str, Any]:
        words = [sys.executable, "-m", "xpo_ray.actors.attempt", "--api", self.api, "--run", self.run_id]
        words += ["--attempt", str(self.attempt), "--root", str(self.root)]
        return {
            "entrypoint": shlex.join(words),
            "submission_id": self.submission_id,
            "metadata": {"name": self.name, "run": self.run_id, "attempt": str(self.attempt)},
            "runtime_env": {"env_vars": self.variables},
        }


class Jobs:
    """The jobs of a cluster."""

    def __init__(self, address: str, token: str | None) -> None:
        self.address = address.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.Client(base_url=self.address, headers=headers, timeout=TIMEOUT_S, trust_env=False)

    def submit(self, job: NewJob) -> None:
        """Submit a job; one that is there already is the same job."""
        answer = self._call("POST", "/api/jobs/", json=job.body(), timeout=SUBMIT_S)
        if answer.status_code != 200 and "already exists" not in answer.text:
            raise RayAway(f"submitting {job.submission_id}: HTTP {answer.status_code}: {answer.text.strip()[-500:]}")

    def all(self) -> dict[str, JobStatus]:
        """Status by submission id, of all jobs that this Ray has heard of."""
        answer = self._sound("GET", "/api/jobs/")
        return {j["submission_id"]: j["status"] for j in answer.json() if j.get("submission_id")}

    def stop(self, submission_id: str) -> None:
        """Ask a job to stop: SIGTERM, and later SIGKILL."""
        answer = self._call("POST", f"/api/jobs/{submission_id}/stop")
        if answer.status_code not in (200, 404):
            raise RayAway(f"stopping {submission_id}: HTTP {answer.status_code}")

    def delete(self, submission_id: str) -> None:
        """Let Ray forget a job that has ended."""
        answer = self._call("DELETE", f"/api/jobs/{submission_id}")
        if answer.status_code not in (200, 404):
            raise RayAway(f"deleting {submission_id}: HTTP {answer.status_code}")

    def log(self, submission_id: str) -> bytes:
        """What a job has written so far."""
        answer = self._call("GET", f"/api/jobs/{submission_id}/logs")
        if answer.status_code != 200:
            return b""
        return str(answer.json()["logs"]).encode()

    def resources(self) -> dict[str, float]:
        """Totals of the cluster, by Ray's names: CPU, GPU, memory in bytes."""
        usage = self._sound("GET", "/api/cluster_status").json()["data"]["clusterStatus"]["loadMetricsReport"]["usage"]
        return {name: float(total) for name, (_, total) in usage.items()}

    def close(self) -> None:
        self._client.close()

    def _sound(self, method: str, path: str) -> httpx.Response:
        answer = self._call(method, path)
        if answer.status_code != 200:
            raise RayAway(f"{method} {path}: HTTP {answer.status_code}")
        return answer

    def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return self._client.request(method, path, **options)
        except httpx.TransportError as error:
            raise RayAway(f"{method} {path}: {type(error).__name__}: {error}") from error
