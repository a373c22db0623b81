"""The shell against the real service: what it prints, how it ends, and that nothing in a name reaches the terminal raw."""

import io
import json
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.api.rows import add_run
from tests.xpo_ray.serving import Served, served
from xpo_ray.api.events.store import append
from xpo_ray.api.services import Services
from xpo_ray.cli import main

Shell = Callable[..., tuple[int, str, str]]
NASTY = "\x1b[31mred\x07 [bold]not bold[/bold] [/] \u202eback"


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    with served(tmp_path) as running:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        monkeypatch.setenv("XPO_RAY_URL", running.url)
        monkeypatch.setenv("XPO_RAY_KEY", running.key)
        monkeypatch.setenv("COLUMNS", "200")
        yield running


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    def run(*args: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["xpo-ray", *map(str, args)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def tell(services: Services, run_id: str, kind: str, **payload: object) -> None:
    with services.database.write() as session:
        append(session, run_id, kind, payload, services.clock())


def test_runs_are_listed_and_shown_and_markup_and_escapes_in_names_are_shown_as_text(
    service: Served, shell: Shell
) -> None:
    add_run(service.services, "run_1", service.key_id, name=NASTY, notes={"note": NASTY})
    add_run(service.services, "run_2", service.key_id, status="paused")
    for command in (("runs", "list"), ("runs", "show", "run_1")):
        code, out, err = shell(*command)
        assert code == 0, err
        assert "[bold]not bold[/bold] [/]" in out
        assert "\x1b" not in out
        assert "\x07" not in out
        assert "\u202e" not in out
    code, out, _ = shell("runs", "list", "--status", "paused", "--json")
    assert [run["id"] for run in json.loads(out)] == ["run_2"]
    code, _, err = shell("runs", "list", "--status", "pausd")
    assert code == 2
    assert "'pausd'" in err
    assert "paused" in err


def test_commands_say_the_new_status_and_a_refusal_ends_with_2(service: Served, shell: Shell) -> None:
    add_run(service.services, "run_1", service.key_id, status="queued")
    assert shell("runs", "pause", "run_1", "--wait")[1].endswith("paused\n")
    code, out, err = shell("runs", "edit", "run_1", "--priority", 7, "--metadata", "a=b", "--cpus", 2, "--json")
    assert code == 0, err
    edited = json.loads(out)
    assert (edited["priority"], edited["metadata"], edited["reservation"]["cpus"]) == (7, {"a": "b"}, 2.0)
    assert shell("runs", "edit", "run_1")[0] == 2
    assert shell("runs", "resume", "run_1")[1].endswith("queued\n")
    assert shell("runs", "cancel", "run_1", "--wait")[1].endswith("cancelled\n")
    code, _, err = shell("runs", "resume", "run_1")
    assert code == 2
    assert "run_state_conflict" in err
    code, _, err = shell("runs", "show", "run_none\x1b[2J")
    assert code == 2
    assert "\x1b" not in err


def test_events_are_followed_to_the_end_of_the_run(service: Served, shell: Shell) -> None:
    add_run(service.services, "run_1", service.key_id, status="failed")
    tell(service.services, "run_1", "warned", code="c", message=NASTY)
    tell(service.services, "run_1", "status_changed", **{"from": "running", "to": "failed", "why": "it broke"})
    code, out, err = shell("runs", "events", "run_1", "--follow", "--json")
    assert code == 0, err
    assert [json.loads(each)["seq"] for each in out.splitlines()] == [1, 2]
    code, out, _ = shell("runs", "events", "run_1", "--after", 1)
    assert "it broke" in out
    assert "warned" not in out
    assert "\x1b" not in shell("runs", "events", "run_1")[1]
    assert json.loads(shell("runs", "events", "run_1", "--follow", "--after", 2, "--json")[1] or "[]") == []


def test_a_key_is_made_listed_logged_in_with_and_revoked(
    service: Served, shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code, out, err = shell("keys", "create", "ann", "--scope", "submit", "--scope", "read", "--json")
    assert code == 0, err
    made = json.loads(out)
    monkeypatch.delenv("XPO_RAY_URL")
    monkeypatch.delenv("XPO_RAY_KEY")
    assert "xpo-ray login" in shell("runs", "list")[2]
    monkeypatch.setattr(sys, "stdin", io.StringIO(made["secret"] + "\n"))
    code, out, err = shell("login", service.url)
    assert code == 0, err
    assert made["secret"] not in out
    kept = tmp_path / "config" / "xpo_ray" / "client.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert shell("runs", "list", "--json")[1] == "[]\n"
    code, _, err = shell("keys", "list")
    assert code == 2
    assert "scope" in err
    monkeypatch.setenv("XPO_RAY_KEY", service.key)
    assert shell("keys", "revoke", made["id"])[0] == 0
    assert "revoked" in shell("keys", "list")[1]
    monkeypatch.delenv("XPO_RAY_KEY")
    assert "401" in shell("runs", "list")[2]


def test_nobody_at_the_url_is_an_error_and_no_failed_run(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XPO_RAY_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("XPO_RAY_KEY", "k")
    code, _, err = shell("runs", "pause", "run_1")
    assert code == 1
    assert err.startswith("error:")
    assert "the run failed" not in err


def test_the_cluster_is_shown(service: Served, shell: Shell) -> None:
    assert service.key
    code, out, err = shell("cluster")
    assert code == 0, err
    assert "does not answer" in out


def test_the_newest_events_are_shown_and_no_others(service: Served, shell: Shell) -> None:
    add_run(service.services, "run_1", service.key_id)
    for n in range(1, 8):
        tell(service.services, "run_1", "warned", code=f"n{n}")
    code, out, err = shell("runs", "events", "run_1", "--newest", "3", "--json")
    assert code == 0, err
    assert [json.loads(line)["seq"] for line in out.splitlines()] == [5, 6, 7]
