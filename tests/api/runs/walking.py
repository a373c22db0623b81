"""A random walk through the life of runs, by the real functions: what users, the queue, drivers and the reconciler do.

A step that the service refuses is a step of the walk too; anything else that is raised is a fault.
"""

import random
from dataclasses import dataclass, field
from typing import Any, get_args

from sqlalchemy import select

from tests.api.rows import add_run
from xpo_ray import __version__
from xpo_ray.api.attempts.claims import claim_attempt
from xpo_ray.api.attempts.endings import conclude, end_by_driver
from xpo_ray.api.attempts.heartbeats import beat
from xpo_ray.api.attempts.journal import receive
from xpo_ray.api.attempts.store import begin_attempt, locked
from xpo_ray.api.auth import Principal
from xpo_ray.api.database.tables import Event, Run
from xpo_ray.api.keys.secret import sha256
from xpo_ray.api.problems import Refusal
from xpo_ray.api.runs.commands import command
from xpo_ray.api.runs.life import Conflict
from xpo_ray.api.runs.queue import Held, admit_waiting
from xpo_ray.api.services import Services
from xpo_ray.run_states import FINAL, FOLLOWS, Command, Ending
from xpo_ray.wire.attempts import AttemptEnd, Claim, JournalBatch
from xpo_ray.wire.runs import RunError

TICKET = "ticket_of_the_walk"
TOTALS = Held(cpus=2.0)


@dataclass
class Walk:
    """One walker with a chance of its own; several may walk over the same runs."""

    services: Services
    caller: Principal
    runs: list[str]
    chance: random.Random
    tokens: dict[tuple[str, int], str] = field(default_factory=dict)
    refused: int = 0

    def step(self) -> None:
        """Do one thing to one run."""
        run_id = self.chance.choice(self.runs)
        deeds = [
            self.commands,
            self.admits,
            self.claims,
            self.reports,
            self.reports,
            self.ends,
            self.dies,
            self.retries,
        ]
        try:
            self.chance.choice(deeds)(run_id)
        except (Refusal, Conflict):
            self.refused += 1

    def commands(self, run_id: str) -> None:
        what: Command = self.chance.choice(get_args(Command))
        command(self.services, self.caller, run_id, what)

    def admits(self, _run_id: str) -> None:
        with self.services.database.write() as session:
            for run in admit_waiting(session, TOTALS, self.services.clock()):
                known = locked(session, run.id, run.attempt)
                assert known is not None
                known.ticket_sha256 = sha256(TICKET)

    def retries(self, run_id: str) -> None:
        with self.services.database.write() as session:
            run = session.scalar(select(Run).where(Run.id == run_id).with_for_update())
            assert run is not None
            attempt = locked(session, run_id, run.attempt)
            if run.status == "starting" and attempt is not None and attempt.state == "ended":
                begin_attempt(session, run, self.services.clock())[0].ticket_sha256 = sha256(TICKET)

    def claims(self, run_id: str) -> None:
        number = self._number(run_id)
        asked = Claim(ticket=TICKET, nonce=f"{self.chance.random():032}"[:32], versions={"xpo-ray": __version__})
        self.tokens[run_id, number] = claim_attempt(self.services, run_id, number, asked).token

    def reports(self, run_id: str) -> None:
        number = self._number(run_id)
        token = self.tokens.get((run_id, number), "attempt_none")
        beat(self.services, run_id, number, token)
        receive(self.services, run_id, number, token, JournalBatch(attempt=number, first=1, records=[_started(run_id)]))

    def ends(self, run_id: str) -> None:
        number = self._number(run_id)
        token = self.tokens.get((run_id, number), "attempt_none")
        ending: Ending = self.chance.choice([e for e in get_args(Ending) if e != "superseded"])
        kind: Any = self.chance.choice(["user", "system"])
        error = RunError(code="walk", message="by chance", kind=kind) if ending in ("failed", "died") else None
        end_by_driver(self.services, run_id, number, token, AttemptEnd(ending=ending, error=error))

    def dies(self, run_id: str) -> None:
        with self.services.database.write() as session:
            run = session.scalar(select(Run).where(Run.id == run_id).with_for_update())
            assert run is not None
            attempt = locked(session, run_id, run.attempt)
            if attempt is not None and run.status not in FINAL:
                conclude(self.services, session, run, attempt, "died", None)

    def _number(self, run_id: str) -> int:
        """Mostly the newest attempt, sometimes the one before."""
        with self.services.database.read() as session:
            newest = session.get_one(Run, run_id).attempt
        return max(newest - (self.chance.random() < 0.1), 1)


def _started(run_id: str) -> dict[str, Any]:
    told = {"run_id": run_id, "attempt": 1, "iterations": 2, "total_steps": 4, "dashboard": None}
    return {"seq": 1, "attempt": 1, "at": 1.8e9, "type": "RunStarted", **told}


def walkable(services: Services, owner: str, count: int) -> list[str]:
    """Queued runs to walk over."""
    ids = [f"run_walk{number}" for number in range(count)]
    for run_id in ids:
        add_run(services, run_id, owner, status="queued")
    return ids


def check_history(services: Services, run_id: str) -> list[str]:
    """The statuses that a run went through. Fails where an arrow is none of the graph's, the log has a gap, something moved
    a run that was final, or the row says something else than the log."""
    with services.database.read() as session:
        run = session.get_one(Run, run_id)
        events = list(session.scalars(select(Event).where(Event.run_id == run_id).order_by(Event.seq)))
    assert [e.seq for e in events] == list(range(1, run.event_seq + 1))
    path = ["queued"]
    for moved in (e.payload for e in events if e.type == "status_changed"):
        assert moved["from"] == path[-1]
        assert moved["to"] in FOLLOWS[path[-1]]  # type: ignore[index]
        path.append(moved["to"])
    assert path[-1] == run.status
    assert sum(status in FINAL for status in path) == (run.status in FINAL)
    assert (run.finished_at is not None) == (run.status in FINAL)
    return path
