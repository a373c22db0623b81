"""What the driver of an attempt calls. Its key is the ticket of the attempt, then the token of its claim; neither is good for
anything else, and no bearer key is good here."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from starlette.concurrency import run_in_threadpool

from xpo_ray.api.attempts.claims import claim_attempt
from xpo_ray.api.attempts.endings import end_by_driver
from xpo_ray.api.attempts.heartbeats import beat, wanted_now
from xpo_ray.api.attempts.journal import receive
from xpo_ray.api.problems import Refusal
from xpo_ray.api.services import TheServices
from xpo_ray.wire.attempts import AttemptEnd, Claim, Granted, Heartbeat, JournalBatch, Orders, Received
from xpo_ray.wire.base import AttemptNumber

router = APIRouter(prefix="/driver/runs/{run_id}/attempts/{number}", tags=["driver"])
LOOK_S = 1.0
"""How often a waiting heartbeat looks by itself: another API process may have written."""


def attempt_token() -> Any:
    """A dependency: the token of an attempt; whether it is good for this one is looked up with the attempt's row."""

    def token(request: Request) -> str:
        scheme, _, found = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not found.startswith("attempt_"):
            raise Refusal(401, "unauthorized", "send Authorization: Bearer with the token of the attempt's claim")
        return found

    token.scope = "attempt"  # type: ignore[attr-defined]
    return Depends(token)


def attempt_ticket() -> Any:
    """A dependency that says: the claim carries the attempt's ticket in its body."""

    def ticket() -> None:
        return None

    ticket.scope = "attempt"  # type: ignore[attr-defined]
    return Depends(ticket)


Token = Annotated[str, attempt_token()]
Number = Annotated[AttemptNumber, Path()]


@router.post("/claim", dependencies=[attempt_ticket()])
def claim(services: TheServices, run_id: str, number: Number, asked: Claim) -> Granted:
    """Take the attempt; the first word of a driver."""
    return claim_attempt(services, run_id, number, asked)


@router.post("/heartbeat")
async def heartbeat(services: TheServices, token: Token, run_id: str, number: Number, asked: Heartbeat) -> Orders:
    """The driver lives; answered when something else is wanted than it knows, at the latest after `wait_s`."""
    deadline = time.monotonic() + asked.wait_s
    with services.changes.watching(run_id) as news:
        wanted = await run_in_threadpool(beat, services, run_id, number, token)
        while wanted == asked.known and not services.changes.closing and (left := deadline - time.monotonic()) > 0:
            await news.within(min(left, LOOK_S))
            wanted = await run_in_threadpool(wanted_now, services, run_id, number)
    return Orders(wanted=wanted)


@router.post("/journal")
def journal(services: TheServices, token: Token, run_id: str, number: Number, batch: JournalBatch) -> Received:
    """Records of the journal, in order; what was received is not stored again."""
    return receive(services, run_id, number, token, batch)


@router.post("/end")
def end(services: TheServices, token: Token, run_id: str, number: Number, last: AttemptEnd) -> Orders:
    """The attempt has ended."""
    return end_by_driver(services, run_id, number, token, last)
