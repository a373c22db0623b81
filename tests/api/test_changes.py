"""News wakes who waits for it, from any thread, and nobody else."""

import asyncio
import threading
import time

from xpo_ray.api.changes import ANY, Changes


async def heard(changes: Changes, topic: str, timeout_s: float) -> bool:
    with changes.watching(topic) as news:
        return await news.within(timeout_s)


def test_news_from_another_thread_wakes_the_waiter() -> None:
    async def waits() -> bool:
        changes = Changes()
        changes.bind(asyncio.get_running_loop())
        waiting = asyncio.create_task(heard(changes, "run_a", 30))
        await asyncio.sleep(0)
        threading.Thread(target=changes.tell, args=("run_a",)).start()
        return await waiting

    assert asyncio.run(waits())


def test_news_of_another_run_does_not_wake_but_any_hears_all() -> None:
    async def waits() -> tuple[bool, bool]:
        changes = Changes()
        changes.bind(asyncio.get_running_loop())
        one, all_of_them = (asyncio.create_task(heard(changes, t, 0.2)) for t in ("run_a", ANY))
        await asyncio.sleep(0)
        changes.tell("run_b")
        return await one, await all_of_them

    assert asyncio.run(waits()) == (False, True)


def test_nothing_is_kept_of_those_who_left() -> None:
    async def waits() -> Changes:
        changes = Changes()
        changes.bind(asyncio.get_running_loop())
        await asyncio.gather(*(heard(changes, f"run_{n}", 0.01) for n in range(50)))
        return changes

    assert asyncio.run(waits())._waiting == {}


def test_closing_lets_everybody_go() -> None:
    async def waits() -> float:
        changes = Changes()
        changes.bind(asyncio.get_running_loop())
        waiting = asyncio.create_task(heard(changes, "run_a", 30))
        await asyncio.sleep(0)
        began = time.monotonic()
        changes.close()
        await waiting
        assert changes.closing
        return time.monotonic() - began

    assert asyncio.run(waits()) < 10


def test_listeners_are_called_at_any_news_also_before_a_loop_is_bound() -> None:
    changes, called = Changes(), []
    changes.listen(lambda: called.append(1))
    changes.tell("run_a")
    changes.tell("run_b")
    assert called == [1, 1]


def test_mere_progress_wakes_who_watches_and_no_listener() -> None:
    async def waits() -> tuple[bool, list[int]]:
        changes, called = Changes(), list[int]()
        changes.listen(lambda: called.append(1))
        changes.bind(asyncio.get_running_loop())
        waiting = asyncio.create_task(heard(changes, "run_a", 30))
        await asyncio.sleep(0)
        changes.tell("run_a", progress=True)
        return await waiting, called

    assert asyncio.run(waits()) == (True, [])


def test_nobody_begins_to_wait_once_the_service_ends() -> None:
    async def waits() -> bool:
        changes = Changes()
        changes.close()
        return await asyncio.wait_for(heard(changes, "run_a", 300), 60)

    assert asyncio.run(waits())


def test_news_that_comes_while_the_watcher_looks_elsewhere_is_kept_and_told_once() -> None:
    async def waits() -> tuple[bool, bool]:
        changes = Changes()
        changes.bind(asyncio.get_running_loop())
        with changes.watching("run_a") as news:
            changes.tell("run_a")
            await asyncio.sleep(0.01)
            return await news.within(30), await news.within(0.01)

    assert asyncio.run(waits()) == (True, False)
