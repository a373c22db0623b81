"""How a Ray is begun or joined: with patience where the machine is busy, and with a folder whose sockets have room.

`placement` calls it. Ray waits for its own processes for limits of its own; where they end, it is begun anew some times before
the run says that there is none.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from xpo_ray.errors import RayNotStarted, SpecError

TRIES = 4
PATIENT = {"RAY_gcs_server_port_wait_time_s": "120", "RAY_gcs_server_request_timeout_seconds": "120"}
"""Ray (2.60) reads them in this process when it starts its own; by itself it waits 30 and 60 seconds."""
LATE = (
    "timed out",
    "Timed out",
    "Failed to get the system config",
    "not available",
    "Failed to connect to GCS",
    "overloaded",
)
"""How the errors of Ray (2.60) read whose cause may be that its processes have had no time on the processor."""
LONGEST_SOCKET = 107
"""Bytes of the path of a Unix socket on Linux."""
BELOW = len("/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.99")
"""What Ray puts behind its temporary folder."""
SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")


def begun(init: Callable[..., Any] = ray.init, stop: Callable[[], None] = ray.shutdown, **options: Any) -> Any:
    """What `ray.init` answers. Raises RayNotStarted where it came to nothing several times for want of time."""
    for name, seconds in PATIENT.items():
        os.environ.setdefault(name, seconds)
    started = time.monotonic()
    for attempt in range(1, TRIES + 1):
        try:
            return init(**options)
        except Exception as error:  # Ray raises a bare Exception where its node is late
            if not _late(error):
                raise
            stop()
            if attempt == TRIES:
                raise RayNotStarted(_told(options, time.monotonic() - started, error)) from error
    raise AssertionError("unreachable")


def _late(error: Exception) -> bool:
    return isinstance(error, TimeoutError) or any(sign in str(error) for sign in LATE)


def _told(options: dict[str, Any], seconds: float, error: Exception) -> str:
    address = options.get("address")
    what = "a local Ray did not start" if address == "local" else f"the Ray at {address or 'this job'} did not answer"
    return (
        f"{what}: tried {TRIES} times in {seconds:.0f} s, on a machine with {os.cpu_count()} cores and a load of "
        f"{os.getloadavg()[0]:.0f}; Ray says: {error}. Wait until the machine is less busy, or free memory, and go on with "
        "--resume; where a Ray runs already, name it in resources.ray_address"
    )


def session_folder(short: tuple[str, ...] = SHORT_FOLDERS) -> str | None:
    """Where a local Ray keeps its session, None for where it would by itself: the sockets below must have room in their paths.
    Raises SpecError where no short folder can be written."""
    wanted = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    if len(os.fsencode(os.path.realpath(wanted))) + BELOW <= LONGEST_SOCKET:
        return None
    for place in short:
        if (own := _own_folder(Path(place))) is not None:
            return str(own)
    raise SpecError(
        f"TMPDIR {wanted}: {len(os.fsencode(wanted))} bytes are too many for the sockets of Ray, whose paths have at most "
        f"{LONGEST_SOCKET}, and none of {', '.join(short)} can be written; set RAY_TMPDIR to a folder of at most "
        f"{LONGEST_SOCKET - BELOW} bytes"
    )


def _own_folder(place: Path) -> Path | None:
    """A folder there that is this user's alone; made once."""
    folder = place / f"xpo-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        seen = folder.lstat()
    except OSError:
        return None
    private = seen.st_uid == os.getuid() and not seen.st_mode & 0o077 and not folder.is_symlink()
    return folder if private and os.access(folder, os.W_OK) else None
