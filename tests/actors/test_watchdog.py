"""How long an actor is waited for, and what becomes of one that never answers."""

import asyncio
import gc
import logging
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from ray.exceptions import RayTaskError

from tests.actors.conftest import Heard
from tests.patience import Deadline
from xpo_ray.actors import watchdog
from xpo_ray.actors.placement import start_actor
from xpo_ray.actors.pools import Pool
from xpo_ray.actors.watchdog import Deadlines, Watched, lived_until
from xpo_ray.errors import ActorLost, UserError
from xpo_ray.reporting import ActorReplaced


class Clock:
    """An actor that says who it is, and may stop its own process."""

    def pid(self) -> tuple[None, int]:
        return None, os.getpid()

    def stop(self, once: str) -> tuple[None, int]:
        """Stands still for ever; the next process, which finds the file, does not."""
        try:
            os.close(os.open(once, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return None, os.getpid()
        return self.stop_always()

    def busy(self, seconds: float) -> tuple[None, int]:
        time.sleep(seconds)
        return None, os.getpid()

    def pulse(self) -> None:
        return None

    def fail(self, after_s: float) -> tuple[None, int]:
        time.sleep(after_s)
        raise UserError("as it was told to")

    def stop_always(self) -> tuple[None, int]:
        os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(3600)  # another thread may have taken the signal, and this one run on for a moment
        return None, os.getpid()


def test_what_was_never_measured_gets_six_times_the_floor() -> None:
    deadlines = Deadlines(10.0)
    assert deadlines.of("draw", fresh=False) == 60.0
    deadlines.note("draw", 0.2)
    assert deadlines.of("draw", fresh=False) == 10.0
    assert deadlines.of("draw", fresh=True) == 60.0
    assert deadlines.of("load", fresh=False) == 60.0


def test_a_slow_method_gets_twenty_times_its_slowest_call() -> None:
    deadlines = Deadlines(10.0)
    for seconds in (0.2, 3.0, 1.0):
        deadlines.note("step", seconds)
    assert deadlines.of("step", fresh=False) == 60.0
    deadlines.note("step", 4.0)
    assert deadlines.of("step", fresh=False) == 80.0
    assert deadlines.of("step", fresh=True) == 80.0


def test_time_limits_of_the_role_itself_come_on_top() -> None:
    deadlines = Deadlines(10.0, longest_s=100.0)
    assert deadlines.of("prefer", fresh=True) == 160.0
    deadlines.note("prefer", 0.1)
    assert deadlines.of("prefer", fresh=False) == 110.0


def test_waiting_ends_with_the_answer_or_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "TICK_S", 0.02)

    async def waits() -> tuple[float | None, float | None]:
        loop = asyncio.get_running_loop()
        comes, never = loop.create_future(), loop.create_future()
        loop.call_later(0.05, comes.set_result, None)
        return await lived_until(comes, 10.0), await lived_until(never, 0.1)

    came, gave_up = asyncio.run(waits())
    assert came is not None
    assert 0.0 < came < 10.0
    assert gave_up is None


def test_waiting_for_a_pulse_ends_with_the_answer_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "TICK_S", 0.02)

    async def waits() -> float | None:
        loop = asyncio.get_running_loop()
        beat, answer = loop.create_future(), loop.create_future()
        loop.call_later(0.05, answer.set_result, None)
        return await lived_until(beat, 10.0, answer)

    assert (asyncio.run(waits()) or 10.0) < 10.0


def test_a_driver_that_stood_still_itself_holds_that_against_no_actor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "TICK_S", 0.05)

    async def waits() -> float | None:
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        loop.call_later(0.01, time.sleep, 1.0)
        loop.call_later(0.1, answer.set_result, None)
        return await lived_until(answer, 0.5)

    seconds = asyncio.run(waits())
    assert seconds is not None
    assert seconds <= 0.5


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a new process may take many seconds to come up, while one that is up answers within one."""
    monkeypatch.setattr(watchdog, "AT_FIRST", 120.0)


def pool_of(heard: Heard, *, max_restarts: int, longest_s: float = 0.0) -> Pool:
    """One Clock, with a floor of a second."""

    def start(name: str, _: int) -> Any:
        return start_actor(Clock, name, pulse=longest_s > 0)

    pool = Pool("clock", 1, start, heard, max_restarts, Deadlines(1.0, longest_s))
    pool.launch()
    return pool


async def measured(pool: Pool) -> int:
    """The process of the pool, up and with a second for each further call of `pid`, `stop` and `stop_always`."""
    for method in ("stop", "stop_always"):
        pool.deadlines.note(method, 0.01)
    _, pid = await pool.call("pid")
    return int(pid)


def gone(pid: int, within_s: float = 30.0) -> bool:
    """Whether a process ends."""
    deadline = Deadline(within_s)
    while deadline.ahead:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.ray
@pytest.mark.usefixtures("cluster", "patient")
def test_a_stopped_actor_is_replaced_its_call_made_again_and_its_process_ended(tmp_path: Any) -> None:
    heard = Heard()

    async def scene() -> tuple[int, int]:
        pool = pool_of(heard, max_restarts=1)
        before = await measured(pool)
        _, after = await pool.call("stop", str(tmp_path / "once"))
        pool.stop()
        return before, int(after)

    before, after = asyncio.run(scene())
    assert before != after
    [replaced] = heard.of(ActorReplaced)
    assert "clock/0 has not answered `stop` for 1 s" in replaced.reason
    assert gone(before)


@pytest.mark.ray
@pytest.mark.usefixtures("cluster", "patient")
def test_an_actor_that_always_hangs_is_given_up() -> None:
    async def scene() -> None:
        pool = pool_of(Heard(), max_restarts=0)
        await measured(pool)
        try:
            await pool.call("stop_always")
        finally:
            pool.stop()

    with pytest.raises(ActorLost, match=r"died 1 times without finishing a piece of work: .*`stop_always`"):
        asyncio.run(scene())


@pytest.mark.ray
@pytest.mark.usefixtures("cluster", "patient")
def test_one_with_long_limits_of_its_own_is_known_by_its_pulse(tmp_path: Any) -> None:
    heard = Heard()

    async def scene() -> tuple[int, int, int]:
        pool = pool_of(heard, max_restarts=1, longest_s=3600.0)
        before = await measured(pool)
        _, busy = await pool.call("busy", 4.0)
        assert not heard.of(ActorReplaced)
        _, after = await pool.call("stop", str(tmp_path / "once"))
        pool.stop()
        return before, int(busy), int(after)

    before, busy, after = asyncio.run(scene())
    assert before == busy != after
    [replaced] = heard.of(ActorReplaced)
    assert "clock/0 has not answered `stop` for 2 s" in replaced.reason
    assert gone(before)


class Kept(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record.getMessage())


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What Ray logs in this process."""
    kept, logger = Kept(), logging.getLogger("ray")
    logger.addHandler(kept)
    yield kept.records
    logger.removeHandler(kept)


@pytest.mark.ray
@pytest.mark.usefixtures("cluster", "patient")
def test_ray_is_silent_about_a_call_that_failed_whether_or_not_it_was_still_waited_for(logged: list[str]) -> None:
    actor = Watched("clock", start_actor(Clock, "failing"), Deadlines(60.0))

    async def scene() -> None:
        await actor.call("pid", ())
        with pytest.raises(RayTaskError, match="as it was told to"):
            await actor.call("fail", (0.0,))
        left = asyncio.create_task(actor.call("fail", (0.3,)))
        await asyncio.sleep(0.1)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        await actor.call("pid", ())  # after the failure
        await asyncio.sleep(0.1)

    asyncio.run(scene())
    actor.kill()
    gc.collect()
    time.sleep(0.2)
    assert logged == []
