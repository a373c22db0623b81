"""Following a run of the service: the look of `xpo-ray run`, its exit code, and texts of the run that stay texts."""

import re
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer

from tests.api.rows import add_run
from tests.xpo_ray.serving import Served, served
from xpo_ray import reporting
from xpo_ray.api.attempts.journal import event_type
from xpo_ray.api.events.store import append
from xpo_ray.cli.following import KINDS, event_of, follow_run
from xpo_ray.client import Client
from xpo_ray.client.calls import get_run
from xpo_ray.wire.events import EventView

NASTY = "\x1b[2J[red]x[/nothing]"
EVENTS: list[reporting.Event] = [
    reporting.RunStarted("run_1", 1, 1, 2),
    reporting.DataRead("source", 9, 8, 0, 1, 0, 0),
    reporting.IterationStarted(1, 8, 1, 2, 0.001, 1e-4),
    reporting.ShardDone(1, 0, "candidates", 8, 0.1, True, {"tokens": 80, "responses": 8, "ended": 4}),
    reporting.StepDone(1, 1, 1, {"loss": 0.69}, 0.1, False),
    reporting.Warned("c", NASTY),
    reporting.ActorReplaced("judge", 1, NASTY),
    reporting.RunFinished("failed", 1.0, 0, error=NASTY),
]


def put(service: Served, status: str) -> None:
    """A run that ended, with the events of a driver."""
    add_run(service.services, "run_1", service.key_id, status=status, name=NASTY)
    told = [(event_type(type(e).__name__), asdict(e)) for e in EVENTS]
    told += [("unheard_of", {"a": 1}), ("status_changed", {"from": "running", "to": status, "why": NASTY})]
    for kind, payload in told:
        with service.services.database.write() as session:
            append(session, "run_1", kind, payload, service.services.clock())


@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled"])
def test_a_run_is_shown_to_its_end_and_its_status_is_the_exit_code(
    status: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with served(tmp_path) as service, Client(service.url, service.key) as client:
        put(service, status)
        run = client.do(get_run("run_1"))
        if status == "succeeded":
            follow_run(client, run, as_json=False)
        else:
            with pytest.raises(typer.Exit) as end:
                follow_run(client, run, as_json=False)
            assert end.value.exit_code == 1
    out = capsys.readouterr().out
    assert "iteration 1/1: 8 prompts, 2 steps" in out
    assert "[red]x[/nothing]" in out
    assert "\x1b[2J" not in out
    assert re.search(rf"^{status}", out, re.MULTILINE)


def test_every_event_with_a_look_of_its_own_is_known_by_its_type() -> None:
    assert all(event_type(kind.__name__) == name for name, kind in KINDS.items())


def test_an_event_of_another_version_is_left_out() -> None:
    now = datetime.now(UTC)
    old = EventView(seq=1, type="step_done", level="info", attempt=1, at=now, payload={"iteration": 1})
    assert event_of(old) is None
