"""The parent's end of the process that runs a user's judge function (`worker` is the other end).

`PythonFunction` starts a Child, sends calls, takes replies, and ends it; nobody else does. Nothing here blocks beyond
the given seconds, even on a process that neither reads nor writes, and nothing here decides what is tried again.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from xpo_ray.errors import JudgeError
from xpo_ray.judges.calls import Call, Ready, Reply, Setup, ready_of, reply_of, to_line

CHUNK_BYTES = 1 << 20
EXIT_WAIT_S = 5.0


@dataclass(frozen=True)
class Lost:
    """The process is gone or silent; whatever was in flight has no reply."""

    reason: str


class Child:
    """One process with the user's function imported. Raises JudgeError where that fails. Must be ended."""

    def __init__(self, setup: Setup, start_timeout_s: float) -> None:
        self._process, self._calls_fd, self._replies_fd, self._lifeline_fd = _start()
        self._outgoing = bytearray(to_line(setup))
        self._incoming = bytearray()
        self._ended = False
        try:
            ready = self._ready(setup, start_timeout_s)
        except BaseException:
            self.end()
            raise
        self.file, self.concurrent = ready.file, ready.concurrent

    def _ready(self, setup: Setup, timeout_s: float) -> Ready:
        first = self._first_line(timeout_s)
        if isinstance(first, Lost):
            raise JudgeError(
                f"judge.function {setup.function}: it could not be imported: the process {first.reason}; "
                f"import the module by hand to see why"
            )
        ready = ready_of(first)
        if ready.fault is not None:
            raise JudgeError(ready.fault)
        return ready

    def _first_line(self, timeout_s: float) -> bytes | Lost:
        lines = self._lines(timeout_s)
        return lines if isinstance(lines, Lost) else lines[0]

    def send(self, call: Call) -> None:
        """Queue a call; it is written while replies are awaited."""
        self._outgoing += to_line(call)

    def replies(self, timeout_s: float) -> list[Reply] | Lost:
        """At least one reply, or Lost after that many seconds without any; a Lost child has been ended."""
        lines = self._lines(timeout_s)
        if isinstance(lines, Lost):
            self.end()
            return lines
        return [reply_of(line) for line in lines]

    @property
    def alive(self) -> bool:
        return not self._ended and self._process.poll() is None

    def end(self) -> None:
        """Kill the process and all that it started, and wait for it. May be called again."""
        if self._ended:
            return
        self._ended = True
        self._kill_group()
        self._process.wait()
        for descriptor in (self._calls_fd, self._replies_fd, self._lifeline_fd):
            os.close(descriptor)

    def _kill_group(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:  # it has been waited for, and nothing else of its group is left
            return

    def _lines(self, timeout_s: float) -> list[bytes] | Lost:
        """Move bytes both ways until a whole line has come."""
        deadline = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._replies_fd, selectors.EVENT_READ, self._receive)
            if self._outgoing:
                selector.register(self._calls_fd, selectors.EVENT_WRITE, self._transmit)
            while b"\n" not in self._incoming:
                events = selector.select(max(0.0, deadline - time.monotonic()))
                if not events:
                    return Lost(f"gave no answer within {timeout_s:g} s and was ended")
                for key, _ in events:
                    move: Callable[[], bool] = key.data
                    if not move():
                        selector.unregister(key.fd)
                if self._replies_fd not in selector.get_map():
                    return Lost(self._how_it_ended())
        return self._whole_lines()

    def _receive(self) -> bool:
        """False at the end of the stream."""
        chunk = os.read(self._replies_fd, CHUNK_BYTES)
        self._incoming += chunk
        return bool(chunk)

    def _transmit(self) -> bool:
        """False when there is nothing left to write, or nobody to read it (then the end of the replies will say so)."""
        try:
            written = os.write(self._calls_fd, memoryview(self._outgoing)[:CHUNK_BYTES])
        except BrokenPipeError:
            self._outgoing.clear()
            return False
        del self._outgoing[:written]
        return bool(self._outgoing)

    def _whole_lines(self) -> list[bytes]:
        whole, _, rest = bytes(self._incoming).rpartition(b"\n")
        self._incoming = bytearray(rest)
        return whole.split(b"\n")

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(EXIT_WAIT_S)
        except subprocess.TimeoutExpired:
            return "closed its pipe and was ended"
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _start() -> tuple[subprocess.Popen[bytes], int, int, int]:
    """The process, and our ends of its pipes: calls (to write), replies (to read), lifeline (held open, never written)."""
    calls_theirs, calls_ours = os.pipe()
    replies_ours, replies_theirs = os.pipe()
    lifeline_theirs, lifeline_ours = os.pipe()
    theirs = (calls_theirs, replies_theirs, lifeline_theirs)
    try:
        process = subprocess.Popen(
            [sys.executable, "-u", "-P", "-m", "xpo_ray.judges.worker", *map(str, theirs)],
            stdin=subprocess.DEVNULL,
            stdout=2,  # what the user's code prints
            pass_fds=theirs,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(place for place in sys.path if place)},
            start_new_session=True,  # a group of its own, which can be ended as a whole
        )
    finally:
        for descriptor in theirs:
            os.close(descriptor)
    os.set_blocking(calls_ours, False)
    return process, calls_ours, replies_ours, lifeline_ours
