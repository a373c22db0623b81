"""One way to read and one to write, on SQLite and PostgreSQL alike, and `glance` for a single small query of an async route.

SQLite has one writer: a lock in this process stands before BEGIN IMMEDIATE, which is fairer than SQLite's own waiting.
Whoever writes gets a transaction that is committed at the end of the block, and rolled back by any exception.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

from pydantic_core import PydanticSerializationError, to_json
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool
from starlette.concurrency import run_in_threadpool

from xpo_ray.crashpoints import crash_point

Found = TypeVar("Found")
BUSY_MS = 10_000
FIRST_SOUND_SQLITE = (3, 51, 3)
"""Older ones can corrupt a file that several connections write at once; here only one does."""


class Database:
    """The engine and the writer's lock."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = _engine(url)
        self._writer: AbstractContextManager[Any] = threading.Lock() if self.on_sqlite else nullcontext()
        self._writing = self.engine.execution_options(writes=True)
        self._reading = self.engine
        self._glancing = self.engine.execution_options(glances=True)
        self._at_hand: Connection | None = None
        self._failed_at = float("-inf")
        if not self.on_sqlite:
            self._reading = self.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    @property
    def on_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one state of the database and changes nothing. Rows may be looked at after it has ended."""
        with Session(self._reading, expire_on_commit=False) as session:
            yield session
            session.expunge_all()

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction. On SQLite only one at a time exists."""
        with self._written(), self._writer, Session(self._writing, expire_on_commit=False) as session, session.begin():
            yield session
            session.flush()
            crash_point("database.before_commit")
        crash_point("database.after_commit")

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """The same without a session's price, for what is asked for hundreds of times a second; `joined` has one where it is
        wanted."""
        with self._written(), self._writer, self._writing.begin() as connection:
            yield connection
            crash_point("database.before_commit")
        crash_point("database.after_commit")

    @contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except OperationalError:
            self._failed_at = time.monotonic()
            raise

    def sound_s(self) -> float:
        """Seconds since a write failed: what others would have written before then is not known."""
        return time.monotonic() - self._failed_at

    async def glance(self, look: Callable[[Connection], Found]) -> Found:
        """One query by a key, some 100 µs. On SQLite it is made here, on the event loop, where nobody is waited for: a hop to
        another thread takes longer. Elsewhere it may wait for a network, and is made in a thread."""
        if not self.on_sqlite:
            return await run_in_threadpool(self.look, look)
        if self._at_hand is None:
            self._at_hand = self._glancing.connect()
        try:
            return look(self._at_hand)
        except DBAPIError:
            self._let_go()
            raise

    def look(self, look: Callable[[Connection], Found]) -> Found:
        """The same for a route that is in a thread."""
        with self._glancing.connect() as connection:
            return look(connection)

    def _let_go(self) -> None:
        if self._at_hand is not None:
            self._at_hand.close()
            self._at_hand = None

    def close(self) -> None:
        self._let_go()
        self.engine.dispose()


@contextmanager
def joined(connection: Connection) -> Iterator[Session]:
    """A session within a transaction, which it neither commits nor ends."""
    with Session(connection, expire_on_commit=False, join_transaction_mode="rollback_only") as session:
        yield session
        session.flush()


def _engine(url: str) -> Engine:
    shared: dict[str, Any] = {"pool_size": 20, "max_overflow": 20, "pool_timeout": 10}
    shared["json_serializer"] = _json
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True, **shared)
    engine = create_engine(url, poolclass=QueuePool, connect_args={"isolation_level": None}, **shared)
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def _json(value: Any) -> str:
    try:
        return to_json(value, inf_nan_mode="constants").decode()
    except PydanticSerializationError:  # half a surrogate pair is no UTF-8
        return json.dumps(value)


def _set_up(connection: sqlite3.Connection, _record: Any) -> None:
    for setting in (
        f"busy_timeout={BUSY_MS}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {setting}")


def _begin(connection: Any) -> None:
    """Python's driver would begin late and upgrade a reader to a writer, which SQLite refuses at once."""
    options = connection.get_execution_options()
    if not options.get("glances", False):  # a single query needs none
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("writes", False) else "BEGIN")
