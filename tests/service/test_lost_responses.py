"""Answers that are lost after their request was executed, between a client and the API and between a driver and the API; and
the API away for minutes while a run goes on. Nothing is done twice, nothing is missing.

Runs with `make faults`.
"""

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.patience import Deadline
from tests.running import model_digest
from tests.service.cutting import Cutter, cutting
from tests.service.invariants import faults_of, tally
from tests.service.serving import Service, free_port, serving
from tests.service.worlds import make_world, undisturbed
from xpo_ray.client import Client, calls
from xpo_ray.wire.runs import Submission

pytestmark = [pytest.mark.ray, pytest.mark.faults]
AWAY_S = 120.0
OF_THE_SERVICE = frozenset(
    {"run_queued", "run_edited", "status_changed", "attempt_started", "attempt_ended", "checkpoints_freed"}
)
VERBS = ("claim", "heartbeat", "journal", "end")


class World:
    """What the runs work on, and the result that they must have."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spec = make_world(folder, judge_s=0.05)
        self.digest = model_digest(undisturbed(folder, self.spec))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, world: World) -> Iterator[tuple[Service, Cutter]]:
    """A service whose drivers reach it through the proxy."""
    port = free_port()
    storage = tmp_path_factory.mktemp("service") / "storage"
    with (
        serving(storage, world.folder, "--public-url", f"http://127.0.0.1:{port}") as service,
        cutting(port, service.url) as cutter,
    ):
        yield service, cutter


@pytest.fixture
def service(both: tuple[Service, Cutter]) -> Service:
    return both[0]


@pytest.fixture
def cutter(both: tuple[Service, Cutter]) -> Iterator[Cutter]:
    """The proxy, which loses nothing until it is told to, and nothing after the test."""
    cutter = both[1]
    cutter.seen.clear()
    yield cutter
    cutter.cuts = lambda _method, _path: False


def first_of_each(verbs: tuple[str, ...], every: int = 0) -> Callable[[str, str], bool]:
    """Loses the first answer to each of these last parts of a path, and then every so-manieth."""
    counts: Counter[str] = Counter()

    def cuts(_method: str, path: str) -> bool:
        verb = path.split("?")[0].rpartition("/")[2]
        counts[verb] += 1
        return verb in verbs and (counts[verb] == 1 or (every > 0 and counts[verb] % every == 0))

    return cuts


def test_a_submission_whose_answer_is_lost_is_sent_again_and_makes_one_run(
    service: Service, cutter: Cutter, world: World
) -> None:
    before = ids(service)
    cutter.cuts = first_of_each(("runs",))
    with Client(cutter.url, service.key) as client:
        run = client.do(calls.submit(Submission(spec=world.spec)))
        assert [e.status for e in cutter.seen if e.path == "/v1/runs"] == [201, 201]
        assert ids(service) - before == {run.id}
        cutter.cuts = first_of_each(("cancel",))
        assert client.do(calls.command_run(run.id, "cancel")).status in ("cancelling", "cancelled")
        assert client.wait(run.id).status == "cancelled"
    assert faults_of(service.storage, service.database_url, run.id) == []


def test_one_key_sent_many_times_at_once_with_lost_answers_makes_one_run(
    service: Service, cutter: Cutter, world: World
) -> None:
    before = ids(service)
    cutter.cuts = lambda method, _path: method == "POST"
    headers = {"Authorization": f"Bearer {service.key}", "Idempotency-Key": "one-and-the-same"}

    def send(url: str) -> str | None:
        try:
            answer = httpx.post(f"{url}/v1/runs", json={"spec": world.spec}, headers=headers, timeout=60)
        except httpx.TransportError:
            return None
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(send, [cutter.url] * 8)) == [None] * 8
    run_id = send(service.url)
    assert ids(service) - before == {run_id}
    assert {p.name for p in service.storage.glob("runs/*")} <= ids(service)  # a folder is made when an attempt begins
    service.call("POST", f"/v1/runs/{run_id}/cancel")


def test_a_driver_whose_answers_are_lost_says_everything_once(service: Service, cutter: Cutter, world: World) -> None:
    cutter.cuts = first_of_each(VERBS, every=3)
    run_id = service.submit(world.spec)
    run = service.until(run_id, "succeeded", within_s=240)
    for verb in VERBS:
        assert cutter.count(f"/{verb}", cut=True) >= 1, verb
    lost = {verb: f"{cutter.count(f'/{verb}', cut=True)} of {cutter.count(f'/{verb}')}" for verb in VERBS}
    print(f"\nFIGURES answers lost: {lost}")
    check(service, run, world.digest)


def test_a_run_goes_on_while_the_api_is_away_for_two_minutes_and_its_journal_comes_later(
    service: Service, cutter: Cutter, world: World
) -> None:
    (world.folder / "vowels.py").write_text((world.folder / "vowels.py").read_text().replace("0.05", "0.9"))
    cutter.cuts = lambda _method, _path: False
    run_id = service.submit(world.spec)
    deadline = Deadline(240)
    while service.run(run_id)["progress"]["steps"] < 1:
        assert deadline.ahead, service.words()
        time.sleep(0.2)
    known = service.run(run_id)["progress"]["steps"]
    service.kill()
    time.sleep(AWAY_S)
    journal = service.root(run_id) / "attempts" / "0001" / "journal.jsonl"
    done = sum(line["type"] == "StepDone" for line in lines(journal))
    assert done > known, "the run stood still while the API was away"
    service.start()
    began = time.monotonic()
    while service.run(run_id)["progress"]["steps"] < done:
        assert time.monotonic() - began < 60, service.words()
        time.sleep(0.1)
    print(f"\nFIGURES away {AWAY_S:.0f} s: {done - known} steps meanwhile, told {time.monotonic() - began:.1f} s after")
    check(service, service.until(run_id, "succeeded", within_s=240), world.digest)


def check(service: Service, run: dict[str, Any], digest: str) -> None:
    """One attempt, the bits of an undisturbed run, and every record of its journal once and in order."""
    assert run["attempt"] == 1
    assert faults_of(service.storage, service.database_url, run["id"]) == []
    root = service.root(run["id"])
    assert model_digest(root / "attempts" / "0001") == digest
    cost = tally(root)
    print(f"FIGURES {cost}")
    assert (cost.drawn_again, cost.twice_in_lineage, cost.replayed) == (0, 0, 0)
    written = [event_type(line["type"]) for line in lines(root / "attempts" / "0001" / "journal.jsonl")]
    assert [e["type"] for e in events(service, run["id"]) if e["type"] not in OF_THE_SERVICE] == written


def events(service: Service, run_id: str) -> Iterator[dict[str, Any]]:
    """The whole log of a run."""
    after: str | None = ""
    while after is not None:
        page = service.call("GET", f"/v1/runs/{run_id}/events?limit=200" + (f"&after={after}" if after else "")).json()
        yield from page["items"]
        after = page["next"]


def ids(service: Service) -> set[str]:
    return {r["id"] for r in service.call("GET", "/v1/runs?limit=200").json()["items"]}


def lines(journal: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in journal.read_text().splitlines(keepends=True) if line.endswith("\n")]


def event_type(kind: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind).lower()
