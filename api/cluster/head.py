"""The local Ray head that the service starts when it is given no cluster: a session of its own, token authentication on.

    storage/ray/token       mode 0600: Ray's shared secret
    storage/ray/head.json   process, ports and folder of the living head
    storage/ray/head.log    what `ray start` says

The end of the API does not end it: the next start finds it by head.json and adopts it. It is ended by its own session and its
own folder alone, never by a name.
"""

import json
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import httpx

from xpo_ray.storage import replace_file, to_json

log = logging.getLogger("xpo_ray.api")
START_S = 60.0
STOP_S = 10.0
PROBE_S = 3.0


@dataclass(frozen=True)
class HeadRecord:
    """A head that was started."""

    pid: int
    """Of `ray start --block`, which leads the session."""
    started: float
    """When that process began, by the system's clock ticks: a number that another process with this pid does not have."""
    dashboard_port: int
    gcs_port: int
    folder: str
    """Ray's temporary folder: short, because sockets lie in it."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.dashboard_port}"


class Head:
    """The head of a storage folder."""

    def __init__(self, storage: Path, dashboard_port: int = 0) -> None:
        self._folder = storage / "ray"
        self._dashboard_port = dashboard_port
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def token_file(self) -> Path:
        return self._folder / "token"

    def token(self) -> str:
        """Ray's shared secret, made at the first call."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            descriptor = os.open(self.token_file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            return self.token_file.read_text().strip()
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        return self.token_file.read_text().strip()

    def record(self) -> HeadRecord | None:
        """The head that head.json names, whether it lives or not."""
        try:
            return HeadRecord(**json.loads((self._folder / "head.json").read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def healthy(self) -> bool:
        """Whether the head's own probe answers."""
        record = self.record()
        return record is not None and _began(record.pid) == record.started and _answers(record)

    def ensure(self) -> HeadRecord:
        """The living head, started where there is none. Raises TimeoutError where it does not come up."""
        record = self.record()
        if record is not None and _began(record.pid) == record.started:
            if _until_answers(record, START_S if time.time() - self._since() < START_S else 2 * PROBE_S):
                return record
            log.warning("the Ray head does not answer; it is ended and started again")
        self.stop()
        return self._start(record)

    def stop(self) -> bool:
        """End the head and everything that it started; says whether there was one."""
        record = self.record()
        if record is None:
            return False
        _end(_belonging(record))
        shutil.rmtree(record.folder, ignore_errors=True)
        (self._folder / "head.json").unlink(missing_ok=True)
        if self.process is not None:
            self.process.wait(STOP_S)
            self.process = None
        return True

    def _since(self) -> float:
        return (self._folder / "head.json").stat().st_mtime

    def _start(self, before: HeadRecord | None) -> HeadRecord:
        self.token()
        dashboard = before.dashboard_port if before else self._dashboard_port or _free_port()
        gcs = before.gcs_port if before else _free_port()
        folder = tempfile.mkdtemp(prefix="xpo-")
        with (self._folder / "head.log").open("ab") as told:
            self.process = subprocess.Popen(
                self._command(dashboard, gcs, folder),
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=told,
                env=self._environment(),
                start_new_session=True,
            )
        pid = self.process.pid
        record = HeadRecord(pid, _began(pid) or 0.0, dashboard, gcs, folder)
        replace_file(self._folder / "head.json", to_json(asdict(record)))
        if not _until_answers(record, START_S):
            raise TimeoutError(f"the Ray head did not come up; see {self._folder / 'head.log'}")
        return record

    def _command(self, dashboard: int, gcs: int, folder: str) -> list[str]:
        spill = self._folder.absolute() / "spill"
        spill.mkdir(exist_ok=True)
        return [
            sys.executable,
            "-c",
            "from ray.scripts.scripts import main; main()",
            "start",
            "--head",
            "--block",
            "--node-ip-address=127.0.0.1",
            f"--port={gcs}",
            "--include-dashboard=true",
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={dashboard}",
            f"--ray-client-server-port={_free_port()}",
            f"--dashboard-agent-listen-port={_free_port()}",  # else the second head of a machine takes no jobs
            f"--temp-dir={folder}",
            f"--object-spilling-directory={spill}",
            "--disable-usage-stats",
        ]

    def _environment(self) -> dict[str, str]:
        """What the head and its workers see: nothing of the service's own settings."""
        kept = {n: v for n, v in os.environ.items() if not n.startswith(("XPO_RAY_", "RAY_AUTH"))}
        return kept | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token_file.absolute()),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_JOB_STOP_WAIT_TIME_S": "60",
        }


@cache
def _prober() -> httpx.Client:
    """One for all probes, because making one reads all certificates of the machine; no connection outlives its probe."""
    return httpx.Client(timeout=PROBE_S, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))


def _answers(record: HeadRecord) -> bool:
    try:
        return _prober().get(f"{record.address}/api/gcs_healthz").status_code == 200
    except httpx.TransportError:
        return False


def _until_answers(record: HeadRecord, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while not _answers(record):
        if time.monotonic() > deadline or _began(record.pid) != record.started:
            return False
        time.sleep(0.2)
    return True


def _began(pid: int) -> float | None:
    """When a process began, in ticks since the system's start; None where there is none, or only its remains."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else float(fields[19])


def _belonging(record: HeadRecord) -> list[int]:
    """Processes of the head's session, and those whose command line names its folder: a name that nothing else has.

    Where the number of the head's process is another's now (the machine was started again), no session is the head's."""
    ours = str(record.pid) if _began(record.pid) in (None, record.started) and os.getsid(0) != record.pid else None
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            session = (entry / "stat").read_text().rpartition(")")[2].split()[3]
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if session == ours or f"{record.folder}/" in command or command.endswith(record.folder):
            found.append(int(entry.name))
    return found


def _end(processes: list[int]) -> None:
    began = {pid: at for pid in processes if (at := _began(pid)) is not None}
    for number, wait_s in ((signal.SIGTERM, STOP_S), (signal.SIGKILL, STOP_S)):
        living = [pid for pid, at in began.items() if _began(pid) == at]
        for pid in living:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + wait_s
        while any(_began(pid) == began[pid] for pid in living) and time.monotonic() < deadline:
            time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
