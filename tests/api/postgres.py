"""A real PostgreSQL for tests, from Debian's package: one server per session, on a socket in a folder of its own."""

import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from sqlalchemy import URL, create_engine, text


def binaries() -> Path | None:
    """Folder of the newest PostgreSQL that is installed; None where there is none."""
    found = [p.parent for p in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    return max(found, key=lambda p: int(re.sub(r"\D", "", p.parent.name) or 0), default=None)


@dataclass
class Server:
    """A server that runs."""

    socket: Path

    def __post_init__(self) -> None:
        self._numbers = count(1)

    def url(self, database: str) -> str:
        made = URL.create("postgresql+psycopg", "postgres", database=database, query={"host": str(self.socket)})
        return made.render_as_string(hide_password=False)

    @contextmanager
    def database(self) -> Iterator[str]:
        """URL of an empty database; it is dropped with the block."""
        name = f"test_{next(self._numbers)}"
        self._administer(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            self._administer(f"DROP DATABASE {name} WITH (FORCE)")

    def _administer(self, statement: str) -> None:
        engine = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                connection.execute(text(statement))
        finally:
            engine.dispose()


@contextmanager
def server(programs: Path) -> Iterator[Server]:
    """Make a cluster, start it, end it. PostgreSQL does not run as root, so there it runs as Debian's user for it."""
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="xpo-pg-"))
    try:
        if user is not None:
            shutil.chown(folder, user, pwd.getpwnam(user).pw_gid)
        place = folder / "data"
        run(programs / "initdb", "-D", place, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", user=user)
        options = f"-k {folder} -c listen_addresses= -c max_connections=200 -c fsync=off"
        run(programs / "pg_ctl", "-D", place, "-w", "-l", folder / "log", "-o", options, "start", user=user)
        try:
            yield Server(folder)
        finally:
            run(programs / "pg_ctl", "-D", place, "-w", "-m", "immediate", "stop", user=user)
    finally:
        shutil.rmtree(folder)


def run(*command: str | Path, user: str | None) -> None:
    """A command that has to end well. Its output goes to a file: the server inherits it, and a pipe would never close."""
    with tempfile.TemporaryFile() as words:
        ended = subprocess.run(command, stdout=words, stderr=words, user=user, cwd="/", check=False, timeout=120)
        words.seek(0)
        assert ended.returncode == 0, words.read().decode(errors="replace")
