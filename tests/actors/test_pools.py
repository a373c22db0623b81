"""Pools whose actors take several calls at once: how calls are shared out, and one death under several calls."""

import asyncio
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.actors.conftest import Heard
from tests.patience import Deadline
from xpo_ray.actors.placement import start_actor
from xpo_ray.actors.pools import Pool
from xpo_ray.actors.summary import Summary
from xpo_ray.actors.watchdog import Deadlines, Watched
from xpo_ray.reporting import ActorReplaced, Warned

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]


class Worker:
    """Says how many calls it has had at once, and whether it was prepared."""

    def __init__(self) -> None:
        self.calls = self.most = 0
        self.prepared = False
        self.lock = threading.Lock()

    def prepare(self) -> tuple[None, None]:
        time.sleep(0.5)
        self.prepared = True
        return None, None

    def work(self, seconds: float) -> tuple[None, tuple[int, int, bool]]:
        with self.lock:
            self.calls += 1
            self.most = max(self.most, self.calls)
        time.sleep(seconds)
        with self.lock:
            self.calls -= 1
        return None, (os.getpid(), self.most, self.prepared)

    def die_once(self, mark: str) -> tuple[None, tuple[int, int, bool]]:
        """Ends its process when all lanes are taken; the next one finds the file and lives."""
        deadline = Deadline(30)
        with self.lock:
            self.calls += 1
        while not Path(mark).exists() and self.calls < 2 and deadline.ahead:
            time.sleep(0.01)
        if not Path(mark).exists():
            Path(mark).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return None, (os.getpid(), self.most, self.prepared)

    def remark(self) -> tuple[None, Summary]:
        return None, Summary(1, 0.0, {}, {"slow": "it goes the long way"})


def pool_of(heard: Heard, size: int, lanes: int) -> Pool:
    def start(name: str, _: int) -> Any:
        return start_actor(Worker, name, lanes=lanes)

    pool = Pool("worker", size, start, heard, 1, Deadlines(60.0), lanes=lanes)

    async def prepare(actor: Watched) -> None:
        await actor.call("prepare", ())

    pool.prepare = prepare
    pool.launch()
    return pool


def test_each_actor_takes_as_many_calls_at_once_as_it_has_lanes_and_no_more() -> None:
    async def scene() -> list[tuple[int, int, bool]]:
        pool = pool_of(Heard(), 2, 2)
        assert pool.idle
        done = await asyncio.gather(*(pool.call("work", 0.3) for _ in range(8)))
        assert pool.idle
        pool.stop()
        return [second for _, second in done]

    told = asyncio.run(scene())
    assert len({pid for pid, _, _ in told}) == 2
    assert {most for _, most, _ in told[4:]} == {2}


def test_a_call_on_each_waits_until_nothing_is_under_way() -> None:
    async def scene() -> tuple[float, float]:
        pool = pool_of(Heard(), 2, 2)
        await pool.each("work", 0.0)
        ended: list[float] = []

        async def work() -> None:
            await pool.call("work", 0.3)
            ended.append(time.monotonic())

        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(work())
            await asyncio.sleep(0)
            alone = await pool.each("prepare")
            began = time.monotonic() - 0.5  # what `prepare` takes
        assert alone == [None, None]
        pool.stop()
        return max(ended), began

    last, began = asyncio.run(scene())
    assert last <= began


def test_a_death_under_several_calls_is_one_death_and_all_are_made_again_on_a_prepared_actor(tmp_path: Path) -> None:
    heard = Heard()

    async def scene() -> list[tuple[int, int, bool]]:
        pool = pool_of(heard, 1, 2)
        await pool.each("prepare")
        mark = str(tmp_path / "mark")
        done = await asyncio.gather(pool.call("die_once", mark), pool.call("die_once", mark))
        pool.stop()
        return [second for _, second in done]

    told = asyncio.run(scene())
    assert len(heard.of(ActorReplaced)) == 1
    assert len({pid for pid, _, _ in told}) == 1
    assert all(prepared for _, _, prepared in told)


def test_what_an_actor_remarks_again_and_again_is_told_once() -> None:
    heard = Heard()

    async def scene() -> None:
        pool = pool_of(heard, 1, 2)
        await pool.each("remark")
        await pool.call("remark")
        pool.stop()

    asyncio.run(scene())
    assert heard.of(Warned) == [Warned("slow", "it goes the long way")]


@pytest.mark.parametrize("dies_before", [False, True])
def test_a_pool_that_is_stopped_puts_nobody_in_the_place_of_its_actors(dies_before: bool) -> None:
    heard = Heard()

    async def scene() -> int:
        pool = pool_of(heard, 1, 1)
        await pool.each("prepare")
        call = asyncio.create_task(pool.call("work", 60.0))
        await asyncio.sleep(0.1)
        if dies_before:
            pool._slots[0].actor.kill()
            while not heard.events:
                await asyncio.sleep(0.01)
        pool.stop()
        with pytest.raises(asyncio.CancelledError):
            await call
        return pool._slots[0].incarnation

    assert asyncio.run(scene()) == 0
    assert len(heard.of(ActorReplaced)) == dies_before
