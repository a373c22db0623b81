"""Processes that are the ranks of a group, for tests: they stay up, and do together what they are handed."""

import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch

from xpo_ray.group.ranks import Ranks, open_store

TIMEOUT_S = 60.0


class Together:
    """`size` processes, started afresh; `all(function, …)` calls it in each with its Ranks before the other arguments."""

    def __init__(self, size: int, timeout_s: float = TIMEOUT_S) -> None:
        self._store = open_store("127.0.0.1", timeout_s)
        context = multiprocessing.get_context("spawn")
        pipes = [context.Pipe() for _ in range(size)]
        self.processes = [
            context.Process(
                target=_rank, args=(theirs, ("127.0.0.1", self._store.port), rank, size, timeout_s), daemon=True
            )
            for rank, (_, theirs) in enumerate(pipes)
        ]
        self._ends = [ours for ours, _ in pipes]
        for process in self.processes:
            process.start()
        for _, theirs in pipes:
            theirs.close()

    def tried(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """What each rank answered: (answer, None), or (None, (name, text) of its error); EOFError for one that died."""
        self.send(function, *args)
        return [self.received(rank) for rank in range(len(self._ends))]

    def send(self, function: Callable[..., Any], *args: Any) -> None:
        for end in self._ends:
            end.send((function, args))

    def received(self, rank: int) -> tuple[Any, Any]:
        """The answer of one rank, as `tried` gives it."""
        try:
            answer: tuple[Any, Any] = self._ends[rank].recv()
        except (EOFError, ConnectionResetError):
            return None, ("EOFError", "the process is gone")
        return answer

    def all(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """The answers; an error of any rank fails the test."""
        answers = self.tried(function, *args)
        assert all(error is None for _, error in answers), "\n".join(str(e[1]) for _, e in answers if e)
        return [answer for answer, _ in answers]

    def close(self) -> None:
        for end in self._ends:
            end.close()
        for process in self.processes:
            process.join(5)
            if process.is_alive():
                process.kill()


def _rank(pipe: Connection, address: tuple[str, int], rank: int, size: int, timeout_s: float) -> None:
    torch.set_num_threads(1)
    ranks = Ranks.join(address, rank, size, timeout_s, torch.device("cpu"))
    while True:
        try:
            function, args = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((function(ranks, *args), None))
        except Exception as error:  # noqa: BLE001 - told to the test
            pipe.send((None, (type(error).__name__, f"{error}\n{traceback.format_exc()}")))
