"""`xpo-ray serve` as its operator meets it: what it prints, how it ends, and one clear line for each thing that is wrong."""

import logging
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from tests.api.rows import add_run
from tests.service.serving import COMMAND, free_port, serving
from xpo_ray.api.database.connection import Database
from xpo_ray.api.database.ownership import Ownership
from xpo_ray.api.database.upgrade import upgrade
from xpo_ray.api.services import Services
from xpo_ray.api.settings import Settings
from xpo_ray.cli import main

NOBODY = "http://127.0.0.1:9"
"""No Ray answers there: these tests start none."""
Serve = Callable[..., tuple[int, str, str]]


@pytest.fixture
def serve(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """The command in this process, on a storage and a port of its own; it must end by itself."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def run(*args: object, **environment: str) -> tuple[int, str, str]:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        given = ["--storage", tmp_path / "storage", "--port", free_port(), "--ray-address", NOBODY, *args]
        monkeypatch.setattr(sys, "argv", ["xpo-ray", "serve", *map(str, given)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    yield run
    root.handlers[:] = handlers
    root.setLevel(level)


def complaint(answer: tuple[int, str, str]) -> str:
    """The one line of an error, after a check that it is one, and that the command ended with 2 and printed nothing else."""
    code, out, err = answer
    lines = [line for line in err.splitlines() if not line.startswith("{")]  # JSON lines are the log
    assert (code, out, len(lines)) == (2, "", 1), (code, out, err)
    assert lines[0].startswith("error: ")
    return lines[0]


def test_a_busy_port_is_named_before_anything_is_made(serve: Serve, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        said = complaint(serve("--port", port))
    assert f"--port {port}: Address already in use; end what listens there" in said
    assert not list((tmp_path / "storage").iterdir())
    assert "name a port" in complaint(serve("--port", 0))
    assert "Cannot assign requested address" in complaint(serve("--host", "192.0.2.1"))


def test_a_storage_that_cannot_be_written_is_named(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        said = complaint(serve("--storage", place))
        assert f"--storage {place}: " in said
        assert "name a folder that this user may write" in said
    assert "--admin-key-file" in complaint(serve("--admin-key-file", tmp_path / "file" / "key"))
    assert "is a folder; name a file" in complaint(serve("--admin-key-file", tmp_path))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("no-url", "is no URL; give postgresql"),
        ("mysql://me:hunter2@host/name", "mysql://me:***@host/name: cannot be used; give postgresql"),
        ("postgresql://host/name", "cannot be used; give postgresql"),
        ("sqlite://", "cannot be used; give postgresql"),
        ("postgresql+psycopg://me:hunter2@127.0.0.1:9/name", "Connection refused"),
        ("sqlite:////proc/none/x.sqlite", "/proc/none"),
    ],
)
def test_a_bad_database_url_is_named_without_its_password(serve: Serve, url: str, expected: str) -> None:
    said = complaint(serve("--database-url", url))
    assert expected in said
    assert "database" in said
    assert "hunter2" not in said


def test_a_bad_root_plugin_or_file_is_named(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("[1]")
    (tmp_path / "bad.yaml").write_text("port: [\n")
    (tmp_path / "unknown.yaml").write_text("prot: 8600\n")
    none = tmp_path / "none"
    cases: list[tuple[tuple[object, ...], str]] = [
        (("--root", none), f"--root {none}: there is no such folder; name one that exists"),
        (("--root", tmp_path / "file"), "is no folder"),
        (("--plugin-path", none), f"--plugin-path {none}: there is no such folder"),
        (("--plugin", "module"), "--plugin module: expected module:function"),
        (("--judge-actor", "my-judge"), "--judge-actor my-judge: expected namespace/name"),
        (("--ray-token-file", none), f"--ray-token-file {none}: no such file"),
        (("--secrets-file", none), f"--secrets-file {none}: No such file"),
        (("--secrets-file", tmp_path / "file"), "is no JSON object"),
        (("--config", none), f"--config {none}: No such file"),
        (("--config", tmp_path / "bad.yaml"), "not YAML"),
        (("--config", tmp_path / "file"), "settings are a mapping, got list"),
        (("--config", tmp_path / "unknown.yaml"), "prot: Extra inputs are not permitted"),
        (("--lease-s", -1), "lease_s: Input should be greater than 0, got -1"),
    ]
    for given, expected in cases:
        assert expected in complaint(serve(*given)), given
    assert "heartbeat_s" in complaint(serve(XPO_RAY_HEARTBEAT_S="often"))


def test_a_newer_schema_and_a_storage_that_is_served_already_are_refused(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "storage").mkdir()
    settings = Settings(storage=tmp_path / "storage")
    owner = Ownership.take(settings)
    assert "is served by process" in complaint(serve())
    owner.release()
    database = Database(settings.database)
    upgrade(database)
    with database.engine.execution_options(writes=True).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    said = complaint(serve())
    assert "schema 9999, which this version of xpo_ray does not know" in said
    assert "run that version again, or restore a backup" in said


class Operator:
    """The command in a process of its own, without any Ray."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()

    def start(self, *more: str) -> subprocess.Popen[str]:
        place = ["--storage", str(self.folder / "storage"), "--port", str(self.port), "--ray-address", NOBODY]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen([*COMMAND, "serve", *place, *more], stdout=subprocess.PIPE, stderr=log, text=True)


def put_run(storage: Path, owner: str) -> None:
    """A run that is paused, into the database of a service that runs."""
    settings = Settings(storage=storage)
    services = Services(settings, Database(settings.database))
    add_run(services, "run_1", owner, status="paused")
    services.database.close()


def until_ready(process: subprocess.Popen[str]) -> str:
    """What it printed up to its ready line."""
    assert process.stdout is not None
    said = ""
    while not (line := process.stdout.readline()).startswith("ready"):
        assert line, said
        said += line
    return said + line


def test_it_says_where_everything_is_and_the_key_once_and_ends_well_while_somebody_listens(tmp_path: Path) -> None:
    operator = Operator(tmp_path)
    url = f"http://127.0.0.1:{operator.port}"
    first = operator.start()
    try:
        said = until_ready(first)
        for line in (rf"API +{url}/v1", rf"pages +{url}/$", rf"Ray +{NOBODY}$", rf"ready +{url}$"):
            assert re.search(line, said, re.MULTILINE), said
        [key] = re.findall(r"^admin key \(shown once, keep it\): (xpo_\S+)$", said, re.MULTILINE)
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30) as client:
            own = client.get("/v1/keys/self").json()
            assert own["scopes"] == ["admin"]
            put_run(tmp_path / "storage", own["id"])
            with client.stream("GET", "/v1/runs/run_1/events/stream") as listening:
                words = listening.iter_text()
                assert "the events of this run" in next(words)
                first.send_signal(signal.SIGTERM)
                assert "".join(words).strip() == "", "the stream ends, whole"
        rest, _ = first.communicate(timeout=30)
    finally:
        first.kill()
    assert first.returncode == 0
    assert "Traceback" not in rest
    log = (tmp_path / "log").read_text()
    assert key not in log
    assert "graceful shutdown exceeded" not in log
    second = operator.start("--admin-key-file", str(tmp_path / "key"))
    try:
        assert "admin key" not in until_ready(second)
        second.send_signal(signal.SIGINT)
        rest, _ = second.communicate(timeout=30)
    finally:
        second.kill()
    assert (second.returncode, "--resume" in rest) == (0, False)
    assert not (tmp_path / "key").exists()


@pytest.mark.ray
@pytest.mark.faults
@pytest.mark.timeout(300)
def test_it_is_ready_soon_after_ray_and_leaves_ray_alone(tmp_path: Path) -> None:
    """Prints how long each start took; the figure to beat is 5 s after Ray is up."""
    with serving(tmp_path / "storage", tmp_path) as service:
        key = tmp_path / "storage" / "admin.key"
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        head = (tmp_path / "storage" / "ray" / "head.json").read_text()
        service.kill()
        began = time.monotonic()
        service.start()
        print(f"\nFIGURES ready {time.monotonic() - began:.1f} s after the start, with Ray up")
        assert (tmp_path / "storage" / "ray" / "head.json").read_text() == head
        assert service.end() == 0
        assert "the Ray head and its runs go on" in service.words()
        stopped = subprocess.run(
            [*COMMAND, "serve", "--storage", str(service.storage), "--stop-ray"],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert stopped.stdout == "the Ray head has ended\n"
