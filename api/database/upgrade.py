"""Bringing a database to the schema of this version, under a lock, so that processes that start together do it once.

A database that is newer than this version is refused: an old program must not write what it does not understand.
"""

import logging
import sqlite3
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DatabaseError

from xpo_ray.api.database.connection import FIRST_SOUND_SQLITE, Database
from xpo_ray.errors import OutputError

log = logging.getLogger("xpo_ray.api")
MIGRATIONS = Path(__file__).parent / "migrations"
LOCK = 0x78706F5F726179
"""Of PostgreSQL's advisory locks: "xpo_ray"."""


def upgrade(database: Database, *, look_for_damage: bool = False) -> None:
    """Apply what is missing. Raises OutputError for a newer schema or a damaged SQLite file."""
    try:
        with database.engine.execution_options(writes=True).begin() as connection:
            if database.on_sqlite:
                _warn_of_old_sqlite(connection)
                if look_for_damage:
                    _refuse_damage(connection)
            else:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
            if current(connection) != head():
                _refuse_newer(connection)
                command.upgrade(config(connection), "head")
    except DatabaseError as error:
        if type(error.orig) is not sqlite3.DatabaseError:  # its subclasses are about statements, it is about the file
            raise
        raise _damaged(str(error.orig)) from error


def config(connection: Connection) -> Config:
    """Alembic's settings: our migrations, on this connection and in its transaction."""
    made = Config()
    made.set_main_option("script_location", str(MIGRATIONS))
    made.attributes["connection"] = connection
    return made


def head() -> str:
    """The schema of this version."""
    script = ScriptDirectory(str(MIGRATIONS))
    found = script.get_current_head()
    assert found is not None
    return found


def current(connection: Connection) -> str | None:
    """The schema that the database has; None for an empty one."""
    return MigrationContext.configure(connection).get_current_revision()


def _refuse_newer(connection: Connection) -> None:
    has = current(connection)
    known = {s.revision for s in ScriptDirectory(str(MIGRATIONS)).walk_revisions()}
    if has is not None and has not in known:
        raise OutputError(
            f"the database has schema {has}, which this version of xpo_ray does not know: a newer one has upgraded it; "
            "run that version again, or restore a backup from before the upgrade"
        )


def _warn_of_old_sqlite(connection: Connection) -> None:
    version = str(connection.scalar(text("SELECT sqlite_version()")))
    if tuple(int(part) for part in version.split(".")) < FIRST_SOUND_SQLITE:
        sound = ".".join(map(str, FIRST_SOUND_SQLITE))
        log.warning(
            "SQLite %s is older than %s, which mended a bug of the write-ahead log. It needs several connections that write "
            "at once; here only one does. PostgreSQL is the way around it altogether.",
            version,
            sound,
        )


def _refuse_damage(connection: Connection) -> None:
    """The process before was killed: look over the whole file once."""
    said = connection.scalar(text("PRAGMA quick_check(1)"))
    if said != "ok":
        raise _damaged(str(said))


def _damaged(how: str) -> OutputError:
    return OutputError(f"the database file is damaged ({how}); restore a backup made with VACUUM INTO")
