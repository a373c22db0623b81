"""How often a caller may ask: by key where there is a valid one, by address else. A sliding minute, in this process.

`auth` counts every call that it looks at; probes, pages and drivers' reports are not counted.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from threading import Lock

from fastapi import Request

from xpo_ray.api.problems import Refusal

FEWEST_PER_ADDRESS = 30
WINDOW_S = 60.0
MOST_CALLERS = 10_000
"""Above as many, those who have not asked for two minutes are dropped."""


@dataclass
class Window:
    """The calls of one caller: in the minute that began at `start`, and in the one before, of which the part counts that still
    lies within the last 60 seconds."""

    start: float
    calls: int = 0
    before: int = 0

    def at(self, now: float) -> float:
        """Go on to `now`; returns the calls of the last 60 seconds, the earlier ones taken as evenly spread."""
        past = int((now - self.start) // WINDOW_S)
        if past:
            self.before = self.calls if past == 1 else 0
            self.calls = 0
            self.start += past * WINDOW_S
        return self.calls + self.before * (1 - (now - self.start) / WINDOW_S)

    def wait(self, now: float, most: int) -> float:
        """Seconds until a call is within the limit again, if nobody calls."""
        turns = self.start + WINDOW_S - now
        if self.calls >= most:  # the part of this minute's calls that still counts shrinks in the next one
            return turns + WINDOW_S * (1 - (most - 1) / self.calls)
        return turns - WINDOW_S * (most - 1 - self.calls) / self.before if self.before else 0.0


class Rates:
    """Calls of the last minute, by caller."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._windows: dict[tuple[str, str], Window] = {}
        self._clock = clock
        self._lock = Lock()

    def count_key(self, request: Request, key_id: str, per_minute: int) -> None:
        """Count a call with a valid key. Raises Refusal (429) above the limit."""
        self._count(request, "key", key_id, per_minute)

    def count_address(self, request: Request, per_minute_by_key: int) -> None:
        """Count a call without one: a tenth as many are answered. Raises Refusal (429) above the limit."""
        address = request.client.host if request.client else "unknown"
        self._count(request, "address", address, max(per_minute_by_key // 10, FEWEST_PER_ADDRESS))

    def _count(self, request: Request, by: str, who: str, per_minute: int) -> None:
        left, wait = self._hit((by, who), per_minute)
        seconds = max(1, ceil(wait))
        request.state.rate = (
            (b"ratelimit-policy", f'"{by}";q={per_minute};w={WINDOW_S:.0f}'.encode()),
            (b"ratelimit", f'"{by}";r={max(left, 0)};t={seconds}'.encode()),
        )
        if left < 0:
            raise Refusal(
                429,
                "rate_limited",
                f"more than {per_minute} requests in a minute by this {by}; wait {seconds} s",
                headers={"Retry-After": str(seconds)},
            )

    def _hit(self, who: tuple[str, str], most: int) -> tuple[int, float]:
        """Calls that are left (below 0: this one is refused, and not counted), and the seconds until there are more."""
        now = self._clock()
        with self._lock:
            window = self._windows.get(who) or self._new(who, now)
            if window.at(now) + 1 > most:
                return -1, window.wait(now, most)
            window.calls += 1
            return int(most - window.at(now)), window.start + WINDOW_S - now

    def _new(self, who: tuple[str, str], now: float) -> Window:
        if len(self._windows) >= MOST_CALLERS:
            self._windows = {k: w for k, w in self._windows.items() if now - w.start < 2 * WINDOW_S}
        made = self._windows[who] = Window(now)
        return made
