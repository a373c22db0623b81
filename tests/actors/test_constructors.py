"""A constructor that raised is told at the first time, with what it raised; one whose process died is started again."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.actors.conftest import Heard
from xpo_ray.actors.placement import start_actor
from xpo_ray.actors.pools import Pool
from xpo_ray.actors.watchdog import Deadlines
from xpo_ray.errors import ActorLost, ModelError
from xpo_ray.failures import lasting, run_error
from xpo_ray.reporting import ActorReplaced

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]


class Raises:
    """Its constructor fails as it is told to."""

    def __init__(self, error: Exception) -> None:
        raise error

    def ready(self) -> tuple[None, None]:
        return None, None


class DiesOnce:
    """The first process is killed while it is being made."""

    def __init__(self, mark: str) -> None:
        if not Path(mark).exists():
            Path(mark).touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def ready(self) -> tuple[None, int]:
        return None, os.getpid()


class Unreadable:
    """An argument that no other process can read."""

    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> None:
    raise ValueError("not in this process")


def first_answer(cls: type, argument: object, heard: Heard) -> Any:
    async def scene() -> Any:
        pool = Pool("role", 1, lambda name, _: start_actor(cls, name, argument), heard, 3, Deadlines(60.0))
        pool.launch()
        try:
            return (await pool.each("ready"))[0]
        finally:
            pool.stop()

    return asyncio.run(scene())


@pytest.mark.parametrize(
    ("error", "ends_the_run"),
    [(ModelError("the folder lacks a head"), True), (ImportError("needs bitsandbytes"), False)],
)
def test_what_a_constructor_raised_is_raised_at_the_first_time_with_its_traceback(
    error: Exception, ends_the_run: bool
) -> None:
    heard = Heard()
    with pytest.raises(type(error), match=str(error)) as caught:
        first_answer(Raises, error, heard)
    told = run_error(caught.value)
    assert not heard.of(ActorReplaced)
    assert (told.message.splitlines()[0], lasting(caught.value)) == (str(error), ends_the_run)
    assert "raise error" in (told.traceback or "")


def test_a_constructor_that_was_killed_is_a_death_and_the_next_process_answers(tmp_path: Path) -> None:
    heard = Heard()
    assert first_answer(DiesOnce, str(tmp_path / "mark"), heard) > 0
    assert len(heard.of(ActorReplaced)) == 1


def test_an_actor_whose_arguments_cannot_be_read_is_not_started_again() -> None:
    heard = Heard()
    with pytest.raises(ActorLost, match="not in this process"):
        first_answer(Raises, Unreadable(), heard)
    assert not heard.of(ActorReplaced)
