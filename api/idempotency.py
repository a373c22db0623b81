"""Idempotency-Key: a request that is sent again is answered again, and has its effect once.

A route takes `once: Once` and makes its effect within `once.answer`; one whose body is too long to hold takes `key: OnceKey`
and says by `once_of` what its content was. The record is written in the transaction of the effect, so that a crash leaves
both or neither. Never for an answer that holds a secret: what is recorded stays for days.
"""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy import Connection, Row, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from xpo_ray.api.auth import Principal
from xpo_ray.api.database.tables import Answered
from xpo_ray.api.problems import Refusal
from xpo_ray.api.services import Services

KEPT_FOR = timedelta(days=7)
REPLAYED = "Idempotent-Replayed"
UNDER_WAY = 0
"""Status of a record whose effect is being made; only the transaction that makes it sees it."""
Record = Row[*tuple[Any, ...]]
OWN = (Answered.key_id == bindparam("caller"), Answered.idempotency_key == bindparam("key"))
RECORD = select(Answered.request_sha256, Answered.status, Answered.body).where(*OWN)
TAKE = {
    "sqlite": sqlite.insert(Answered).on_conflict_do_nothing().returning(Answered.status),
    "postgresql": postgresql.insert(Answered).on_conflict_do_nothing().returning(Answered.status),
}
"""Gives a row where there was none."""
DONE = update(Answered).where(*OWN).values(status=bindparam("made"), body=bindparam("answer"))


@dataclass(frozen=True)
class Idempotency:
    """The key that came with a request, and what tells the request from others."""

    key: str | None
    request_sha256: str

    def earlier(self, services: Services, caller: Principal) -> JSONResponse | None:
        """What was answered before; None for a first time. For a look before dear work that `answer` then makes count,
        or after the work was refused: what was taken once is not refused the second time."""
        if self.key is None:
            return None
        found = services.database.look(lambda connection: connection.execute(RECORD, self._of(caller)).one_or_none())
        return self._replay(found)

    def answer(
        self, services: Services, caller: Principal, effect: Callable[[Connection], BaseModel], status: int = 201
    ) -> JSONResponse:
        """Have the effect in one transaction and answer with what it returns; or, for a request that came before, answer
        as then. Raises Refusal where the key came with another request. Of two at a time the second waits for the first.
        """
        with services.database.transaction() as connection:
            if (before := self._replay(self._take(services, caller, connection))) is not None:
                return before
            body = effect(connection).model_dump(mode="json")
            if self.key is not None:
                connection.execute(DONE, {**self._of(caller), "made": status, "answer": body})
        return JSONResponse(body, status)

    def _take(self, services: Services, caller: Principal, connection: Connection) -> Record | None:
        """The record of a key that came before; for a first time it is made here. PostgreSQL lets a twin wait at the insert
        until the first has been committed; on SQLite only one writes at a time."""
        if self.key is None:
            return None
        made = {"request_sha256": self.request_sha256, "status": UNDER_WAY, "body": {}, "at": services.clock()}
        own = {"key_id": caller.key_id, "idempotency_key": self.key}
        if connection.execute(TAKE[connection.dialect.name], own | made).one_or_none() is not None:
            return None
        return connection.execute(RECORD, self._of(caller)).one()

    def _of(self, caller: Principal) -> dict[str, Any]:
        return {"caller": caller.key_id, "key": self.key}

    def _replay(self, record: Record | None) -> JSONResponse | None:
        if record is None:
            return None
        if record.request_sha256 != self.request_sha256:
            raise Refusal(
                422,
                "idempotency_key_reused",
                f"the Idempotency-Key {self.key!r} came with another request before; take a new key for a new request",
                field="Idempotency-Key",
            )
        if record.status == UNDER_WAY:
            return None
        return JSONResponse(record.body, record.status, headers={REPLAYED: "true"})


def once_of(request: Request, key: str | None, content: bytes) -> Idempotency:
    """For a request whose content is this, however it was sent."""
    what = f"{request.method} {request.url.path}\n".encode() + content
    return Idempotency(key, hashlib.sha256(what).hexdigest())


def known(services: Services, caller: Principal, key: str | None) -> bool:
    """Whether this caller's key came before, with whatever request."""
    if key is None:
        return False
    with services.database.read() as session:
        return session.get(Answered, (caller.key_id, key)) is not None


def replayed(answer: JSONResponse) -> bool:
    """Whether this is an earlier answer, given again."""
    return REPLAYED in answer.headers


OnceKey = Annotated[
    str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$")
]


async def _idempotency(request: Request, key: OnceKey = None) -> Idempotency:
    content = await request.body()
    with suppress(ValueError, RecursionError):  # what is no JSON is told from others by its bytes
        content = json.dumps(json.loads(content), sort_keys=True).encode()
    return once_of(request, key, content)


Once = Annotated[Idempotency, Depends(_idempotency)]
