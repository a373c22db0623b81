"""The Ray head of a service: started with a token, adopted, started again when it has died, ended alone. The short test starts
Ray once; what needs no Ray is tried on processes that only sleep.
"""

import json
import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.patience import Deadline
from tests.service.serving import lives, processes
from xpo_ray.api.cluster.head import Head, HeadRecord, _began

SLEEP = ["sh", "-c", "sleep 300 & echo made; wait"]


@contextmanager
def sleeping() -> Iterator[subprocess.Popen[bytes]]:
    """A process that leads a session of its own, with a child in it."""
    made = subprocess.Popen(SLEEP, start_new_session=True, stdout=subprocess.PIPE)
    assert made.stdout is not None
    try:
        made.stdout.readline()  # the child is there
        yield made
    finally:
        made.stdout.close()
        if made.poll() is None:
            os.killpg(made.pid, signal.SIGKILL)
            made.wait()


def note(storage: Path, pid: int, **changes: float) -> None:
    """Put a process into head.json as a head that was started."""
    folder = storage / "ray" / "temporary"
    folder.mkdir(parents=True)
    record = {"pid": pid, "started": _began(pid), "dashboard_port": 9, "gcs_port": 9, "folder": str(folder), **changes}
    (storage / "ray" / "head.json").write_text(json.dumps(record))


def session(pid: int) -> list[int]:
    """Living processes of a session."""
    found = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()]
    return [each for each in found if lives(each) and _session(each) == pid]


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def test_a_stop_ends_the_session_of_the_head_and_nothing_else(tmp_path: Path) -> None:
    with sleeping() as head, sleeping() as bystander:
        note(tmp_path, head.pid)
        assert not Head(tmp_path).healthy(), "nobody answers"
        assert Head(tmp_path).stop()
        assert head.wait(10) != 0
        assert session(head.pid) == []
        assert bystander.poll() is None
        assert len(session(bystander.pid)) == 2
    assert not (tmp_path / "ray" / "head.json").exists()
    assert not (tmp_path / "ray" / "temporary").exists()
    assert not Head(tmp_path).stop(), "there is none any more"


def test_a_process_that_has_the_number_of_a_head_from_before_is_left_alone(tmp_path: Path) -> None:
    """After a restart of the machine the number of the head is somebody else's."""
    with sleeping() as stranger:
        note(tmp_path, stranger.pid, started=1.0)
        assert not Head(tmp_path).healthy()
        assert Head(tmp_path).stop()
        assert stranger.poll() is None
        assert len(session(stranger.pid)) == 2


def test_what_is_left_of_a_head_whose_leader_died_is_ended(tmp_path: Path) -> None:
    with sleeping() as head:
        note(tmp_path, head.pid)
        head.kill()
        head.wait()
        assert len(session(head.pid)) == 1, "the child lives on"
        assert Head(tmp_path).stop()
        assert session(head.pid) == []


def test_the_token_is_made_once_and_read_by_its_owner_alone(tmp_path: Path) -> None:
    token = Head(tmp_path).token()
    assert Head(tmp_path).token() == token
    assert len(token) == 64
    assert stat.S_IMODE(Head(tmp_path).token_file.stat().st_mode) == 0o600


def test_a_record_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    (tmp_path / "ray").mkdir()
    for text in ("", "{", "[]", '{"pid": 1}'):
        (tmp_path / "ray" / "head.json").write_text(text)
        assert Head(tmp_path).record() is None
    assert not Head(tmp_path).stop()


def asked(head: Head, record: HeadRecord, *, token: bool) -> int:
    headers = {"Authorization": f"Bearer {head.token()}"} if token else {}
    return httpx.get(f"{record.address}/api/jobs/", headers=headers, timeout=30, trust_env=False).status_code


def strike(record: HeadRecord) -> None:
    """SIGKILL for the head and its own processes."""
    os.killpg(record.pid, signal.SIGKILL)
    for pid in processes(record.folder + "/"):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.ray
def test_a_head_answers_to_its_token_alone_and_the_next_service_adopts_it(tmp_path: Path) -> None:
    head = Head(tmp_path)
    try:
        record = head.ensure()
        assert head.healthy()
        assert asked(head, record, token=True) == 200
        assert asked(head, record, token=False) in (401, 403)
        of_next_service = Head(tmp_path)
        assert of_next_service.ensure() == record
        assert of_next_service.process is None, "it started none"
        members = session(record.pid)
        assert record.pid in members
    finally:
        head.stop()
    assert [pid for pid in members if lives(pid)] == []
    assert gone(record.folder), "a worker that was just starting sees by itself that its head has ended"
    assert not Path(record.folder).exists()


@pytest.mark.ray
@pytest.mark.faults
def test_a_head_that_died_is_started_again_at_its_address_and_a_stop_spares_another(tmp_path: Path) -> None:
    first, other = Head(tmp_path / "first"), Head(tmp_path / "other")
    try:
        before, beside = first.ensure(), other.ensure()
        strike(before)
        assert not first.healthy()
        after = first.ensure()
        assert after.pid != before.pid
        assert (after.dashboard_port, after.gcs_port) == (before.dashboard_port, before.gcs_port)
        assert not Path(before.folder).exists()
        assert asked(first, after, token=True) == 200
        assert first.stop()
        assert other.healthy()
        assert beside == other.record()
    finally:
        for each in (first, other):
            each.stop()
        shutil.rmtree(tmp_path, ignore_errors=True)


def gone(folder: str, within_s: float = 30.0) -> bool:
    """Whether no process works in a head's folder any more, at the latest after that time."""
    deadline = Deadline(within_s)
    while processes(folder):
        if not deadline.ahead:
            return False
        time.sleep(0.2)
    return True
