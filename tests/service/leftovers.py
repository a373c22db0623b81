"""What runs have left behind when all of them have ended: in Ray, among the processes, on the disk.

Each check returns what it found, as sentences; nothing found is how it should be.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from tests.service.serving import Service

ROLES = ("Actor", "JobSupervisor", "actors.attempt", "xpo_ray")


def leftovers(service: Service) -> list[str]:
    """Everything."""
    return [*_of_ray(service), *_processes(service), *_spilled(service), *_half_written(service), *_reserved(service)]


def temporary(folder: Path, service: Service) -> list[str]:
    """Files in a temporary folder that was the service's alone, beside those of Ray's head: its folder, and that of its
    dashboard's socket, at which a living process listens. Torch keeps one cache folder for all processes; empty, it is nothing.
    """
    head, sockets = Path(_head(service)["folder"]), Path("/proc/net/unix").read_text()
    found = [p for p in sorted(folder.iterdir()) if p != head and f" {p}/" not in sockets]
    return [str(p) for p in found if not (p.name.startswith("torchinductor_") and not any(p.iterdir()))]


def open_files(service: Service) -> int:
    """Descriptors that the API's process holds."""
    assert service.process is not None
    return len(list(Path(f"/proc/{service.process.pid}/fd").iterdir()))


def _of_ray(service: Service) -> Iterator[str]:
    for actor in _state(service, "actors"):
        if actor["state"] != "DEAD":
            yield f"actor {actor['name'] or actor['class_name']} is {actor['state']}"
    for group in _state(service, "placement_groups"):
        if group["state"] != "REMOVED":
            yield f"placement group {group['placement_group_id']} is {group['state']}"
    for job in _state(service, "jobs"):
        if job["submission_id"] and job["status"] not in ("SUCCEEDED", "STOPPED", "FAILED"):
            yield f"job {job['submission_id']} is {job['status']}"


def _processes(service: Service) -> Iterator[str]:
    """Processes of the head's session that do a run's work; Ray keeps idle workers, which are nobody's."""
    for pid, words in _session(_head(service)["pid"]):
        title = words.split(" --", 1)[0] if "ray::" in words else words
        heads_own = any(part in title for part in ("ray::IDLE", "ray.scripts", "ray.dashboard"))
        if not heads_own and any(role in title for role in ROLES):
            yield f"process {pid}: {title[:200]}"


def _spilled(service: Service) -> Iterator[str]:
    for path in (service.storage / "ray" / "spill").rglob("*"):
        if path.is_file():
            yield f"{path} was spilled and not removed"


def _half_written(service: Service) -> Iterator[str]:
    """What only a run under way has: tickets, its prompts, files aside."""
    for path in (service.storage / "runs").rglob("*"):
        aside = path.name.startswith(".") or path.suffix == ".tmp"
        if aside or path.name in ("ticket", "prompts", "result.unconfirmed.json", "run.lock"):
            yield f"{path} was left behind"


def _reserved(service: Service) -> Iterator[str]:
    cluster = service.call("GET", "/v1/cluster").json()
    if cluster["reserved"]["cpus"] or cluster["reserved"]["gpus"] or cluster["queue_length"]:
        yield f"the service still reserves {cluster['reserved']} and has {cluster['queue_length']} in its queue"


def _state(service: Service, what: str) -> list[dict[str, Any]]:
    """A table of Ray's state, whole."""
    record, token = _head(service), (service.storage / "ray" / "token").read_text().strip()
    address = f"http://127.0.0.1:{record['dashboard_port']}/api/v0/{what}?limit=10000&detail=1"
    answer = httpx.get(address, headers={"Authorization": f"Bearer {token}"}, timeout=30)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]["result"]["result"]
    return found


def _head(service: Service) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((service.storage / "ray" / "head.json").read_text())
    return record


def _session(leader: int) -> Iterator[tuple[int, str]]:
    """Processes of a session with their command lines."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            session = int((entry / "stat").read_text().rpartition(")")[2].split()[3])
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if session == leader:
            yield int(entry.name), words
