"""What an attempt is asked to do while it works: go on, pause, cancel, or stop at once because it was superseded.

Told from any thread (the heartbeat, a signal), waited for on the driver's event loop. An order is never taken back, only
surpassed.
"""

import asyncio
import threading
from collections.abc import Callable

from xpo_ray.errors import Cancelled, Paused, Stopped, Superseded
from xpo_ray.run_states import Wanted

RANK: dict[Wanted, int] = {"run": 0, "pause": 1, "cancel": 2, "superseded": 3}
STOPS: dict[Wanted, type[Stopped]] = {"pause": Paused, "cancel": Cancelled, "superseded": Superseded}


class Orders:
    """The order that stands."""

    def __init__(self) -> None:
        self.wanted: Wanted = "run"
        self._lock = threading.Lock()
        self._listeners: list[Callable[[], None]] = []

    def give(self, wanted: Wanted) -> None:
        """Ask for something; less than what was asked before changes nothing."""
        with self._lock:
            if RANK[wanted] <= RANK[self.wanted]:
                return
            self.wanted = wanted
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    async def surpass(self, known: Wanted) -> Wanted:
        """Wait until something else than `known` is wanted."""
        loop, news = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(news.set)

        with self._lock:
            self._listeners.append(tell)
        try:
            while self.wanted == known:
                await news.wait()
                news.clear()
            return self.wanted
        finally:
            with self._lock:
                self._listeners.remove(tell)

    def stopped(self) -> Stopped:
        """The order as what ends the attempt."""
        return STOPS[self.wanted](f"the attempt was asked to stop: {self.wanted}")
