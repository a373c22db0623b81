"""The thread that owns a vLLM engine: it adds requests, steps, and hands each caller its completions when all have ended.

Several callers' requests share the engine's batch, so that it does not drain at the end of one shard. What changes the engine
(weights, sleep) runs between steps, when nothing is in flight.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from vllm import LLM, RequestOutput, SamplingParams
    from vllm.lora.request import LoRARequest

Found = TypeVar("Found")


class EngineBroken(Exception):
    """The engine failed in a step; its process is of no use any more."""


@dataclass
class Batch:
    """The requests of one call."""

    prompts: Sequence[Sequence[int]]
    params: Sequence[SamplingParams]
    adapter: LoRARequest | None = None
    """Of all of them; None: the weights themselves."""
    done: Future[list[RequestOutput]] = field(default_factory=Future)
    outputs: dict[int, RequestOutput] = field(default_factory=dict)


@dataclass
class Change:
    """Something to be done with the engine while no request is in flight."""

    do: Callable[[LLM], Any]
    done: Future[Any] = field(default_factory=Future)


class Pump:
    """Callers of `complete` and `change` may be in any threads; both block."""

    def __init__(self, make: Callable[[], LLM], *, mixes: bool) -> None:
        """Makes the engine. Raises what `make` raises. `mixes`: requests with an adapter and without one may share a step."""
        self._mixes = mixes
        self._inbox: queue.SimpleQueue[Batch | Change] = queue.SimpleQueue()
        self._ahead: deque[Batch | Change] = deque()
        self._living: dict[str, tuple[Batch, int]] = {}
        self._numbers = itertools.count()
        self._broken: BaseException | None = None
        made: Future[None] = Future()
        threading.Thread(target=self._run, args=(make, made), name="vllm", daemon=True).start()
        made.result()

    def complete(
        self, prompts: Sequence[Sequence[int]], params: Sequence[SamplingParams], adapter: LoRARequest | None = None
    ) -> list[RequestOutput]:
        """One output per prompt, in order. Raises ValueError for a request that the engine refuses, or EngineBroken."""
        batch = Batch(prompts, params, adapter)
        self._send(batch)
        return batch.done.result()

    def change(self, do: Callable[[LLM], Found]) -> Found:
        """Run `do` on the engine when nothing is in flight; what is asked for later waits. Raises what `do` raises."""
        change = Change(do)
        self._send(change)
        found: Found = change.done.result()
        return found

    def _send(self, order: Batch | Change) -> None:
        self._inbox.put(order)
        if self._broken is not None:  # its thread reads no more
            raise EngineBroken(f"the engine failed before: {self._broken}") from self._broken

    def _run(self, make: Callable[[], LLM], made: Future[None]) -> None:
        try:
            llm = make()
        except BaseException as error:  # noqa: BLE001 - told to the one who waits for the engine
            made.set_exception(error)
            return
        made.set_result(None)
        while self._broken is None:
            self._receive()
            try:
                self._turn(llm)
            except Exception as error:  # noqa: BLE001 - of any kind, and the end of this engine
                self._fail(error)

    def _receive(self) -> None:
        """Take in what was asked for; wait where there is nothing to do."""
        if not self._living and not self._ahead:
            self._ahead.append(self._inbox.get())
        self._empty_inbox()

    def _empty_inbox(self) -> None:
        while True:
            try:
                self._ahead.append(self._inbox.get_nowait())
            except queue.Empty:
                return

    def _turn(self, llm: LLM) -> None:
        while self._ahead and self._may_begin(self._ahead[0]):
            order = self._ahead.popleft()
            if isinstance(order, Batch):
                self._add(llm, order)
            else:
                _settle(order, llm)
        if self._living:
            for output in llm.llm_engine.step():
                self._take(output)

    def _may_begin(self, order: Batch | Change) -> bool:
        """Whether what is in flight lets it begin: a change waits for all, a batch for those that it may not mix with."""
        if not self._living:
            return True
        batch, _ = next(iter(self._living.values()))
        return isinstance(order, Batch) and (self._mixes or order.adapter is batch.adapter)

    def _add(self, llm: LLM, batch: Batch) -> None:
        ids: list[str] = []
        try:
            for i, (prompt, params) in enumerate(zip(batch.prompts, batch.params, strict=True)):
                name = str(next(self._numbers))
                llm.llm_engine.add_request(name, {"prompt_token_ids": list(prompt)}, params, lora_request=batch.adapter)
                ids.append(name)
                self._living[name] = batch, i
        except Exception as error:  # noqa: BLE001 - vLLM has several of its own; none of them harms the engine
            batch.done.set_exception(_caused(ValueError(f"vLLM refuses a request: {error}"), error))
            for name in ids:  # without the refused one, the others of its call are of no use
                del self._living[name]
            llm.llm_engine.abort_request(ids)
            return
        if not ids:
            batch.done.set_result([])

    def _take(self, output: Any) -> None:
        if not output.finished or output.request_id not in self._living:
            return
        batch, i = self._living.pop(output.request_id)
        batch.outputs[i] = output
        if len(batch.outputs) == len(batch.prompts):
            batch.done.set_result([batch.outputs[k] for k in range(len(batch.prompts))])

    def _fail(self, error: Exception) -> None:
        """Tell everybody who waits, and stop."""
        self._broken = error
        waiting = {id(batch): batch.done for batch, _ in self._living.values()}
        self._empty_inbox()
        waiting |= {id(order): order.done for order in self._ahead}
        for done in waiting.values():
            if not done.done():
                done.set_exception(_caused(EngineBroken(f"the engine failed: {type(error).__name__}: {error}"), error))


def _settle(change: Change, llm: LLM) -> None:
    """Raises what was raised where one of the engine's own processes has died; all else, of any kind, the caller gets."""
    try:
        change.done.set_result(change.do(llm))
    except Exception as error:
        if not getattr(llm.llm_engine.model_executor, "is_failed", False):
            return change.done.set_exception(error)
        broken = EngineBroken(f"the engine has lost a process: {type(error).__name__}: {error}")
        change.done.set_exception(_caused(broken, error))
        raise


def _caused(told: Exception, by: Exception) -> Exception:
    """What one who waits in another thread is told, with the traceback of what was behind it."""
    told.__cause__ = by
    return told
