"""How often a caller may ask: by key where there is a valid one, by address else. A sliding minute, in this process.

`auth` counts every call that it looks at; probes, pages and drivers' reports are not counted.
"""

import time
from math import ceil

from fastapi import Request
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from xpo_ray.api.problems import Refusal

FEWEST_PER_ADDRESS = 30
WINDOW_S = 60


class Rates:
    """Calls of the last minute, by caller."""

    def __init__(self) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def count_key(self, request: Request, key_id: str, per_minute: int) -> None:
        """Count a call with a valid key. Raises Refusal (429) above the limit."""
        self._count(request, "key", key_id, per_minute)

    def count_address(self, request: Request, per_minute_by_key: int) -> None:
        """Count a call without one: a tenth as many are answered. Raises Refusal (429) above the limit."""
        address = request.client.host if request.client else "unknown"
        self._count(request, "address", address, max(per_minute_by_key // 10, FEWEST_PER_ADDRESS))

    def _count(self, request: Request, by: str, who: str, per_minute: int) -> None:
        item = RateLimitItemPerMinute(per_minute)
        within = self._limiter.hit(item, by, who)
        stats = self._limiter.get_window_stats(item, by, who)
        wait = max(1, ceil(stats.reset_time - time.time()))
        request.state.rate = {
            "RateLimit-Policy": f'"{by}";q={per_minute};w={WINDOW_S}',
            "RateLimit": f'"{by}";r={stats.remaining};t={wait}',
        }
        if not within:
            raise Refusal(
                429,
                "rate_limited",
                f"more than {per_minute} requests in a minute by this {by}; wait {wait} s",
                headers={"Retry-After": str(wait)},
            )
