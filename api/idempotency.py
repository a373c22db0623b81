"""Idempotency-Key: a request that is sent again is answered again, and has its effect once.

A route takes `once: Once` and makes its effect within `once.answer`. The record is written in the transaction of the effect,
so that a crash leaves both or neither. Never for an answer that holds a secret: what is recorded stays for days.
"""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, Header, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from xpo_ray.api.auth import Principal
from xpo_ray.api.database.tables import Answered
from xpo_ray.api.problems import Refusal
from xpo_ray.api.services import Services

KEPT_FOR = timedelta(days=7)
REPLAYED = "Idempotent-Replayed"
UNDER_WAY = 0
"""Status of a record whose effect is being made; only the transaction that makes it sees it."""


@dataclass(frozen=True)
class Idempotency:
    """The key that came with a request, and what tells the request from others."""

    key: str | None
    request_sha256: str

    def earlier(self, services: Services, caller: Principal) -> JSONResponse | None:
        """What was answered before; None for a first time. For a look before dear work that `answer` then makes count."""
        if self.key is None:
            return None
        with services.database.read() as session:
            return self._replay(session.get(Answered, (caller.key_id, self.key)))

    def answer(
        self, services: Services, caller: Principal, effect: Callable[[Session], BaseModel], status: int = 201
    ) -> JSONResponse:
        """Have the effect in one transaction and answer with what it returns; or, for a request that came before, answer
        as then. Raises Refusal where the key came with another request. Of two at a time the second waits for the first.
        """
        with services.database.write() as session:
            record = self._take(services, caller, session)
            if (before := self._replay(record)) is not None:
                return before
            body = effect(session).model_dump(mode="json")
            if record is not None:
                record.status, record.body = status, body
        return JSONResponse(body, status)

    def _take(self, services: Services, caller: Principal, session: Session) -> Answered | None:
        """The record of this key: made here for a first time, found for a second. PostgreSQL lets a twin wait at the
        insert until the first has been committed; on SQLite only one writes at a time."""
        if self.key is None:
            return None
        made = Answered(
            key_id=caller.key_id,
            idempotency_key=self.key,
            request_sha256=self.request_sha256,
            status=UNDER_WAY,
            body={},
            at=services.clock(),
        )
        try:
            with session.begin_nested():
                session.add(made)
        except IntegrityError:
            return session.get_one(Answered, (caller.key_id, self.key))
        return made

    def _replay(self, record: Answered | None) -> JSONResponse | None:
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


async def _idempotency(
    request: Request,
    key: Annotated[
        str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$")
    ] = None,
) -> Idempotency:
    content = await request.body()
    with suppress(ValueError, RecursionError):  # what is no JSON is told from others by its bytes
        content = json.dumps(json.loads(content), sort_keys=True).encode()
    what = f"{request.method} {request.url.path}\n".encode() + content
    return Idempotency(key, hashlib.sha256(what).hexdigest())


Once = Annotated[Idempotency, Depends(_idempotency)]
