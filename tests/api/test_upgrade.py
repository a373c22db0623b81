"""Migrations: one head, equal to the tables on both databases, applied once, and never over a newer schema."""

import subprocess
import sys

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from xpo_ray.api.database.connection import Database
from xpo_ray.api.database.tables import Table
from xpo_ray.api.database.upgrade import MIGRATIONS, current, head, upgrade
from xpo_ray.errors import OutputError

UPGRADE = """
import sys
from xpo_ray.api.database.connection import Database
from xpo_ray.api.database.upgrade import upgrade
sys.stdin.read(1)
upgrade(Database(sys.argv[1]))
"""


def test_there_is_one_head() -> None:
    assert len(ScriptDirectory(str(MIGRATIONS)).get_heads()) == 1


def test_migrations_give_the_tables_that_the_code_has(both_databases: str, database_url: str) -> None:
    database = Database(database_url)
    upgrade(database)
    with database.engine.connect() as connection:
        assert current(connection) == head()
        assert compare_metadata(MigrationContext.configure(connection), Table.metadata) == [], both_databases
    database.close()


def test_a_second_upgrade_changes_nothing(both_databases: str, database_url: str) -> None:
    database = Database(database_url)
    upgrade(database)
    upgrade(database)
    with database.engine.connect() as connection:
        rows = connection.scalars(text("SELECT version_num FROM alembic_version")).all()
    database.close()
    assert rows == [head()], both_databases


def test_a_newer_schema_is_refused_and_left_alone(both_databases: str, database_url: str) -> None:
    database = Database(database_url)
    upgrade(database)
    with database.engine.execution_options(writes=True).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(OutputError, match="schema 9999, which this version of xpo_ray does not know"):
        upgrade(database)
    with database.engine.connect() as connection:
        assert current(connection) == "9999", both_databases
    database.close()


def test_an_upgrade_that_fails_leaves_nothing(both_databases: str, database_url: str) -> None:
    database = Database(database_url)
    with database.engine.execution_options(writes=True).begin() as connection:
        connection.execute(text("CREATE TABLE webhooks (x INTEGER)"))  # the migration will stumble over it, late
    with pytest.raises(Exception, match="webhooks"):
        upgrade(database)
    with database.engine.execution_options(writes=True).begin() as connection:
        assert current(connection) is None, both_databases
        connection.execute(text("DROP TABLE webhooks"))
    upgrade(database)
    database.close()


def test_four_processes_that_start_together_migrate_once(both_databases: str, database_url: str) -> None:
    command = [sys.executable, "-c", UPGRADE, database_url]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
    for each in started:
        assert each.stdin is not None
        each.stdin.write(b".")
        each.stdin.flush()
    ended = [each.communicate(timeout=120)[1].decode() for each in started]
    assert [each.returncode for each in started] == [0] * 4, (both_databases, ended)
