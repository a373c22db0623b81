"""The ways into the database, on both dialects."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta, timezone
from threading import current_thread

import pytest
from sqlalchemy import Connection, select, text
from sqlalchemy.exc import IntegrityError, OperationalError

from tests.api.clock import SettableClock
from xpo_ray.api.database.tables import Answered, Event, Fact, Key, Run
from xpo_ray.api.services import Services


def test_many_threads_that_add_to_one_number_lose_nothing(both_databases: str, services: Services) -> None:
    with services.database.write() as session:
        session.add(Fact(name="count", value={"n": 0}))

    def add() -> None:
        for _ in range(20):
            with services.database.write() as session:
                fact = session.get_one(Fact, "count", with_for_update=True)
                fact.value = {"n": fact.value["n"] + 1}

    threads = [threading.Thread(target=add) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    with services.database.read() as session:
        assert session.get_one(Fact, "count").value == {"n": 160}, both_databases


def test_an_exception_rolls_everything_back(both_databases: str, services: Services) -> None:
    def fails() -> None:
        with services.database.write() as session:
            session.add(Fact(name="a", value={}))
            session.flush()
            raise RuntimeError(both_databases)

    with pytest.raises(RuntimeError):
        fails()
    with services.database.read() as session:
        assert session.get(Fact, "a") is None


def test_a_reader_sees_one_state_and_does_not_wait_for_a_writer(both_databases: str, services: Services) -> None:
    with services.database.write() as session:
        session.add(Fact(name="a", value={"n": 1}))
    with services.database.read() as reading:
        assert reading.get_one(Fact, "a").value == {"n": 1}
        with services.database.write() as session:
            session.get_one(Fact, "a").value = {"n": 2}
        reading.expire_all()
        assert reading.get_one(Fact, "a").value == {"n": 1}, both_databases


def test_foreign_keys_hold(both_databases: str, services: Services, clock: SettableClock) -> None:
    with pytest.raises(IntegrityError), services.database.write() as session:
        session.add(Event(run_id="run_none", seq=1, type="x", level="info", attempt=0, at=clock(), payload={}))
    assert both_databases


def test_moments_come_back_in_utc_whatever_zone_they_had(both_databases: str, services: Services) -> None:
    moment = datetime(2026, 3, 29, 2, 30, 0, 123456, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    with services.database.write() as session:
        session.add(
            Key(
                id="key_1",
                name="k",
                prefix="p",
                secret_sha256="0" * 64,
                scopes=["read"],
                quotas={},
                created_at=moment,
            )
        )
    with services.database.read() as session:
        found = session.get_one(Key, "key_1").created_at
        assert session.scalar(select(Key.id).where(Key.created_at < moment + timedelta(microseconds=1))) == "key_1"
    assert (found, found.tzinfo) == (moment, UTC), both_databases


def test_sqlite_is_set_up_so_that_what_was_answered_stays(services: Services) -> None:
    with services.database.read() as session:
        assert session.scalar(text("PRAGMA journal_mode")) == "wal"
        assert session.scalar(text("PRAGMA synchronous")) == 2, "FULL"
        assert session.scalar(text("PRAGMA foreign_keys")) == 1
        assert session.scalar(text("PRAGMA busy_timeout")) == 10_000


def test_a_read_session_cannot_keep_what_it_changed(services: Services) -> None:
    with services.database.read() as session:
        session.add(Fact(name="a", value={}))
        session.flush()
    with services.database.read() as session:
        assert session.get(Fact, "a") is None


def test_rows_may_be_looked_at_after_the_session(both_databases: str, services: Services) -> None:
    with services.database.write() as session:
        session.add(made := Fact(name="a", value={"n": 1}))
    with services.database.read() as session:
        found = session.get_one(Fact, "a")
    assert found.value == made.value == {"n": 1}, both_databases


def test_tables_are_there_after_a_start(both_databases: str, services: Services) -> None:
    with services.database.read() as session:
        for table in (Run, Answered):
            assert session.scalars(select(table)).all() == [], both_databases


def test_a_full_database_gives_an_operational_error_and_keeps_what_it_had(services: Services) -> None:
    """SQLite's own limit of pages stands for a full disk: the same error, and 503 over HTTP."""
    with services.database.write() as session:
        session.add(Fact(name="a", value={}))

    def fill() -> None:
        with services.database.write() as session:
            session.execute(text("PRAGMA max_page_count = 1"))
            session.add(Fact(name="b", value={"x": "y" * 1_000_000}))

    with pytest.raises(OperationalError, match="full"):
        fill()
    with services.database.read() as session:
        assert session.get(Fact, "a") is not None
        assert session.get(Fact, "b") is None


def test_a_glance_sees_what_was_committed_last_and_goes_on_after_a_close(
    both_databases: str, services: Services
) -> None:
    def look(connection: Connection) -> tuple[int, str]:
        return connection.execute(select(Fact.value).where(Fact.name == "a")).scalar_one()["n"], current_thread().name

    async def glances() -> list[tuple[int, str]]:
        found = []
        for n in range(3):
            with services.database.write() as session:
                session.merge(Fact(name="a", value={"n": n}))
            found.append(await services.database.glance(look))
        return found

    found = asyncio.run(glances())
    assert [n for n, _ in found] == [0, 1, 2]
    on_the_loop = {thread == current_thread().name for _, thread in found}
    assert on_the_loop == {services.database.on_sqlite}, both_databases
    services.database.close()
    assert asyncio.run(services.database.glance(look))[0] == 2


def test_a_glance_does_not_wait_for_a_writer_and_a_writer_not_for_it(both_databases: str, services: Services) -> None:
    def count(connection: Connection) -> int:
        return len(connection.execute(select(Fact)).all())

    with services.database.write() as session:
        session.add(Fact(name="a", value={}))
        session.flush()
        assert asyncio.run(services.database.glance(count)) == 0, both_databases
    assert asyncio.run(services.database.glance(count)) == 1
    with services.database.write() as session:
        session.execute(text("DELETE FROM facts"))
    assert asyncio.run(services.database.glance(count)) == 0
