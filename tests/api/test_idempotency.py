"""Idempotency-Key: one effect for each key, on both databases, also for twins that come at once."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Annotated

import pytest
from fastapi import APIRouter, Query
from fastapi.testclient import TestClient
from sqlalchemy import Connection, func, select
from starlette.responses import Response

from tests.api.clock import SettableClock
from tests.api.conftest import Headers
from xpo_ray.api.app import create_app
from xpo_ray.api.auth import Principal, allow
from xpo_ray.api.database.connection import joined
from xpo_ray.api.database.tables import Answered, Fact
from xpo_ray.api.idempotency import Once
from xpo_ray.api.ids import new_id
from xpo_ray.api.problems import Refusal
from xpo_ray.api.services import Services, TheServices
from xpo_ray.api.upkeep import sweep
from xpo_ray.wire.base import Answer, Question

KILLED = """
import asyncio, json, sys
from fastapi import Request
from sqlalchemy import insert
from tests.api.test_idempotency import Note
from xpo_ray.api.auth import Principal
from xpo_ray.api.database.connection import Database
from xpo_ray.api.database.tables import Fact
from xpo_ray.api.idempotency import _idempotency
from xpo_ray.api.services import Services
from xpo_ray.api.settings import Settings
from xpo_ray.wire.keys import Quotas

async def body():
    return {"type": "http.request", "body": b'{"text": "a"}'}

scope = {"type": "http", "method": "POST", "path": "/notes", "query_string": b"", "headers": [(b"host", b"x")]}
once = asyncio.run(_idempotency(Request(scope, body), "one"))
caller = Principal(sys.argv[2], "submitter", frozenset({"submit"}), Quotas(), "key")

def effect(connection):
    connection.execute(insert(Fact), {"name": "note_killed", "value": {"text": "a"}})
    return Note(name="note_killed", text="a")

once.answer(Services(Settings(), Database(sys.argv[1])), caller, effect)
"""
"""The same request in a process that a crash point kills; the record's time is the real clock's."""
router = APIRouter()


class NewNote(Question):
    text: str


class Note(Answer):
    name: str
    text: str


@router.post("/notes", status_code=201)
def make_note(
    asked: NewNote,
    services: TheServices,
    once: Once,
    caller: Principal = allow("submit"),
    fail: Annotated[bool, Query()] = False,
) -> Response:
    def effect(connection: Connection) -> Note:
        name = new_id("note")
        with joined(connection) as session:
            session.add(Fact(name=name, value={"text": asked.text}))
        if fail:
            raise Refusal(409, "not_now", "after the effect")
        return Note(name=name, text=asked.text)

    return once.answer(services, caller, effect)


@pytest.fixture
def notes(services: Services) -> Iterator[TestClient]:
    app = create_app(services.settings, services=services, background=False)
    app.include_router(router)
    with TestClient(app, "http://127.0.0.1") as client:
        yield client


def made(services: Services) -> int:
    with services.database.read() as session:
        return session.scalar(select(func.count()).select_from(Fact).where(Fact.name.startswith("note_"))) or 0


def test_the_same_request_again_is_answered_as_before(
    both_databases: str, notes: TestClient, services: Services, submitter: Headers
) -> None:
    headers = {**submitter, "Idempotency-Key": "one"}
    first = notes.post("/notes", content='{"text": "a"}', headers={**headers, "Content-Type": "application/json"})
    again = notes.post("/notes", json={"text": "a"}, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201), both_databases
    assert first.json() == again.json()
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert made(services) == 1


def test_another_body_under_the_same_key_is_refused(notes: TestClient, services: Services, submitter: Headers) -> None:
    headers = {**submitter, "Idempotency-Key": "one"}
    notes.post("/notes", json={"text": "a"}, headers=headers)
    answer = notes.post("/notes", json={"text": "b"}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert made(services) == 1


def test_keys_belong_to_their_callers(
    notes: TestClient, services: Services, submitter: Headers, admin: Headers
) -> None:
    names = {
        notes.post("/notes", json={"text": "a"}, headers={**who, "Idempotency-Key": "one"}).json()["name"]
        for who in (submitter, admin)
    }
    assert len(names) == made(services) == 2


def test_without_a_key_each_request_has_its_effect(notes: TestClient, services: Services, submitter: Headers) -> None:
    for _ in range(2):
        assert notes.post("/notes", json={"text": "a"}, headers=submitter).status_code == 201
    assert made(services) == 2


def test_what_failed_leaves_neither_effect_nor_record(
    both_databases: str, notes: TestClient, services: Services, submitter: Headers
) -> None:
    headers = {**submitter, "Idempotency-Key": "one"}
    assert notes.post("/notes?fail=true", json={"text": "a"}, headers=headers).status_code == 409
    assert made(services) == 0, both_databases
    assert notes.post("/notes", json={"text": "a"}, headers=headers).status_code == 201


def test_twins_that_come_at_once_have_one_effect(
    both_databases: str, notes: TestClient, services: Services, submitter: Headers
) -> None:
    answers: list[tuple[int, str]] = []
    together = threading.Barrier(8)

    def ask() -> None:
        together.wait(30)
        answer = notes.post("/notes", json={"text": "a"}, headers={**submitter, "Idempotency-Key": "twin"})
        answers.append((answer.status_code, answer.text))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert len(answers) == 8
    assert len(set(answers)) == 1, (both_databases, answers)
    assert answers[0][0] == 201
    assert made(services) == 1


@pytest.mark.parametrize(("point", "made_before"), [("database.before_commit", 0), ("database.after_commit", 1)])
def test_a_process_that_is_killed_leaves_the_effect_with_its_record_or_neither(
    both_databases: str, notes: TestClient, services: Services, submitter: Headers, point: str, made_before: int
) -> None:
    key_id = notes.get("/v1/keys/self", headers=submitter).json()["id"]
    command = [sys.executable, "-c", KILLED, services.settings.database, key_id]
    ended = subprocess.run(
        command, env={**os.environ, "XPO_CRASH_AT": f"{point}:1"}, stderr=subprocess.PIPE, check=False, timeout=60
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert made(services) == made_before, both_databases
    headers = {**submitter, "Idempotency-Key": "one"}
    again = notes.post("/notes", json={"text": "a"}, headers=headers)
    assert again.status_code == 201, again.text
    assert again.headers.get("idempotent-replayed") == ("true" if made_before else None)
    assert made(services) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "with space", "schlüssel".encode()])
def test_a_key_that_is_none_is_refused(notes: TestClient, submitter: Headers, key: str | bytes) -> None:
    headers: dict[str, str | bytes] = {**submitter, "Idempotency-Key": key}
    answer = notes.post("/notes", json={"text": "a"}, headers=headers)  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["field"]) == (422, "Idempotency-Key")


def test_records_are_swept_after_a_week(
    notes: TestClient, services: Services, submitter: Headers, clock: SettableClock
) -> None:
    notes.post("/notes", json={"text": "a"}, headers={**submitter, "Idempotency-Key": "one"})
    clock.advance(days=6.9)
    sweep(services)
    with services.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Answered)) == 1
    clock.advance(days=0.2)
    sweep(services)
    with services.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Answered)) == 0
