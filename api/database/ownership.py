"""Who may serve a database: of a SQLite file one API process, as long as it lives; of PostgreSQL as many as were declared."""

import fcntl
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sqlalchemy import make_url

from xpo_ray.api.settings import Settings
from xpo_ray.errors import OutputError, SpecError


@dataclass
class Ownership:
    """The lock beside a SQLite file; nothing on PostgreSQL."""

    lock: IO[bytes] | None
    unclean: bool = False
    """Whoever served the file before was killed."""

    @classmethod
    def take(cls, settings: Settings) -> "Ownership":
        """Raises SpecError for more than one replica on SQLite, OutputError where another process serves the file."""
        if not settings.on_sqlite:
            return cls(None)
        if settings.replicas > 1:
            raise SpecError(
                f"replicas: {settings.replicas} API processes need PostgreSQL, database_url is {settings.database}; "
                "give a postgresql+psycopg:// URL, or replicas 1"
            )
        path = Path(make_url(settings.database).database or "")
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(path.name + ".lock").open("a+b")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            holder = lock.read().decode(errors="replace").strip() or "another process"
            lock.close()
            raise OutputError(
                f"database {path} is served by {holder} already; end that one, or give this one another --storage"
            ) from error
        lock.seek(0)
        unclean = lock.read() != b""
        lock.truncate(0)
        with suppress(OSError):  # a full disk: the lock holds without its holder's name
            os.write(lock.fileno(), f"process {os.getpid()}\n".encode())
        return cls(lock, unclean)

    def release(self) -> None:
        """Leave the file to others, and say by an empty lock file that all is well."""
        if self.lock is not None:
            self.lock.truncate(0)
            self.lock.close()
