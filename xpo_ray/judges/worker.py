"""The process of a user's judge function: `python -m xpo_ray.judges.worker CALLS REPLIES LIFELINE` (file descriptors).

Started by `child.Child`, and by nothing else. Calls come and replies go as JSON lines through descriptors of their own,
so what the user's code prints (it goes to stderr) never meets the protocol. A sync function runs outside any event loop,
one call at a time; an async one runs on one loop, every call with its own time limit. The process ends with its parent.
"""

from __future__ import annotations

import asyncio
import fcntl
import inspect
import math
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence, Set
from pathlib import Path
from queue import SimpleQueue
from typing import BinaryIO

from xpo_ray.errors import JudgeError
from xpo_ray.judges.calls import Answer, Call, Ready, Reply, call_of, setup_of, to_line
from xpo_ray.judges.judgement import Comparison
from xpo_ray.judges.plugins import load, what_was_raised

Deliver = Callable[[bytes], object]


def main(calls_fd: int, replies_fd: int, lifeline_fd: int) -> None:
    """Import the function, say so, and answer calls until the parent is gone."""
    for descriptor in (calls_fd, replies_fd, lifeline_fd):
        os.set_inheritable(descriptor, False)
    _end_with_parent(lifeline_fd)
    lines, replies = os.fdopen(calls_fd, "rb"), os.fdopen(replies_fd, "wb", buffering=0)
    setup = setup_of(lines.readline())
    _restore_python_path(setup.python_path)
    try:
        file, function = load(setup.function, Path(setup.folder))
    except JudgeError as error:
        replies.write(to_line(Ready(fault=str(error))))
        return
    judged = Judged(function, setup.batched, setup.timeout_s)
    replies.write(to_line(Ready(str(file), judged.concurrent)))
    if judged.concurrent:
        asyncio.run(_serve_concurrently(judged, lines, replies))
    else:
        _serve_one_by_one(judged, lines, replies)


def _end_with_parent(lifeline_fd: int) -> None:
    """Have the kernel end our process group when the last writer of the lifeline is gone.

    A thread that waits for the end of the file cannot do it while the user's code holds the interpreter's lock.
    """
    fcntl.fcntl(lifeline_fd, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(lifeline_fd, fcntl.F_SETFL, fcntl.fcntl(lifeline_fd, fcntl.F_GETFL) | os.O_ASYNC)


def _restore_python_path(value: str | None) -> None:
    os.environ.pop("PYTHONPATH", None)
    if value is not None:
        os.environ["PYTHONPATH"] = value


def _serve_one_by_one(judged: Judged, lines: BinaryIO, replies: BinaryIO) -> None:
    inbox: SimpleQueue[bytes] = SimpleQueue()
    _read_in_background(lines, inbox.put)
    while True:
        call = call_of(inbox.get())
        _write(replies, Reply(call.number, judged.answers(call)))


async def _serve_concurrently(judged: Judged, lines: BinaryIO, replies: BinaryIO) -> None:
    loop = asyncio.get_running_loop()
    inbox: asyncio.Queue[bytes] = asyncio.Queue()
    running: set[asyncio.Task[None]] = set()

    async def answer(call: Call) -> None:
        _write(replies, Reply(call.number, await judged.answers_later(call)))

    _read_in_background(lines, lambda line: loop.call_soon_threadsafe(inbox.put_nowait, line))
    while True:
        task = asyncio.create_task(answer(call_of(await inbox.get())))
        running.add(task)
        task.add_done_callback(running.discard)


def _read_in_background(lines: BinaryIO, deliver: Deliver) -> None:
    threading.Thread(target=_read, args=(lines, deliver), name="calls", daemon=True).start()


def _read(lines: BinaryIO, deliver: Deliver) -> None:
    for line in lines:
        deliver(line)
    os.killpg(os.getpgrp(), signal.SIGKILL)  # the parent is gone; whatever the user's code started goes along


def _write(replies: BinaryIO, reply: Reply) -> None:
    line = memoryview(to_line(reply))
    while line:
        line = line[replies.write(line) :]


class Judged:
    """The user's function, from a call to answers that hold numbers or reasons."""

    def __init__(self, function: Callable[..., object], batched: bool, timeout_s: float) -> None:
        self._function = function
        self._batched = batched
        self._timeout_s = timeout_s
        self.concurrent = _is_async(function)

    def answers(self, call: Call) -> tuple[Answer, ...]:
        try:
            returned = self._called(call)
            if inspect.isawaitable(returned):
                returned = asyncio.run(_settled(returned))
            return self._read(call, returned)
        except (Exception, SystemExit) as error:  # noqa: BLE001  the user's function
            return _all_failed(call, f"the function raised {what_was_raised(error)}")

    async def answers_later(self, call: Call) -> tuple[Answer, ...]:
        """As answers, but no later than the time limit, even if the user's task refuses to be cancelled."""
        task = asyncio.create_task(self._answers_of_task(call))
        done, _ = await asyncio.wait({task}, timeout=self._timeout_s)
        if done:
            return task.result()
        task.cancel()
        return _all_failed(call, f"the function gave no answer within {self._timeout_s:g} s and was cancelled")

    async def _answers_of_task(self, call: Call) -> tuple[Answer, ...]:
        try:
            returned = self._called(call)
            if inspect.isawaitable(returned):
                returned = await returned
            return self._read(call, returned)
        except (Exception, SystemExit, asyncio.CancelledError) as error:  # noqa: BLE001  the user's function
            return _all_failed(call, f"the function raised {what_was_raised(error)}")

    def _called(self, call: Call) -> object:
        prompts = [list(comparison.prompt) for comparison in call.comparisons]
        responses = [[response.text for response in comparison.responses] for comparison in call.comparisons]
        return self._function(prompts, responses) if self._batched else self._function(prompts[0], responses[0])

    def _read(self, call: Call, returned: object) -> tuple[Answer, ...]:
        if not self._batched:
            return (_answer(call.comparisons[0], returned),)
        try:
            lists = listed(returned, len(call.comparisons), "lists of scores, one per prompt")
        except ValueError as error:
            return _all_failed(call, str(error))
        return tuple(_answer(comparison, scores) for comparison, scores in zip(call.comparisons, lists, strict=True))


def _is_async(function: Callable[..., object]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


async def _settled(returned: Awaitable[object]) -> object:
    return await returned


def _all_failed(call: Call, reason: str) -> tuple[Answer, ...]:
    return (Answer(reason=reason),) * len(call.comparisons)


def _answer(comparison: Comparison, returned: object) -> Answer:
    try:
        return Answer(scores_of(returned, len(comparison.responses)))
    except ValueError as error:
        return Answer(reason=str(error))


def scores_of(returned: object, count: int) -> tuple[float | None, ...]:
    """Floats from what the user's function returned; None where one is not finite. Raises ValueError, with a reason.

    Whatever turns into one float is a number: bool, int, Decimal, scalars of numpy and torch. Text and None are not.
    """
    numbers = [_number(item) for item in listed(returned, count, "scores, one per response")]
    scores = tuple(number if math.isfinite(number) else None for number in numbers)
    if all(score is None for score in scores):
        raise ValueError(f"every score is NaN or infinite: {_shown(returned)}")
    return scores


def listed(returned: object, count: int, what: str) -> Sequence[object]:
    """The items of an ordered collection of `count`. Raises ValueError, with a reason."""
    if isinstance(returned, (str, bytes, Mapping, Set)) or not isinstance(returned, Iterable):
        raise ValueError(f"the function returned {_shown(returned)}; expected a list of {count} {what}")
    items = list(returned)
    if len(items) != count:
        raise ValueError(f"the function returned {len(items)} items, {_shown(returned)}; expected {count} {what}")
    return items


def _number(item: object) -> float:
    if isinstance(item, (str, bytes, bytearray)) or getattr(item, "ndim", 0) != 0:
        raise ValueError(f"the function returned {_shown(item)} for a score; expected a number")
    try:
        return float(item)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"the function returned {_shown(item)} for a score; expected a number, or NaN for no score"
        ) from error


def _shown(value: object) -> str:
    text = f"{type(value).__name__} {value!r}"
    return text if len(text) <= 200 else f"{text[:197]}..."


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
