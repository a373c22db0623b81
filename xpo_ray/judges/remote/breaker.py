"""When a request may be sent: the circuit breaker of an endpoint, and the pause that it has asked for.

closed ──N tries in a row without a working endpoint──► open ──cool-down──► one probe ──► closed, or open again

The caller asks before each try and tells how it went. Decides by the time that it is given; never waits, never sends.
"""

from dataclasses import dataclass


@dataclass
class Breaker:
    """The state of one endpoint as one process sees it."""

    failures_to_open: int
    cool_down_s: float
    _in_a_row: int = 0
    _down_since: float | None = None
    """When there were enough failures in a row."""
    _next_probe: float = 0.0
    _probing: bool = False
    _held_until: float = float("-inf")

    @property
    def open(self) -> bool:
        return self._down_since is not None

    @property
    def probing(self) -> bool:
        """Whether a probe is on its way."""
        return self._probing

    def wait_s(self, now: float) -> float:
        """0: send now, and tell how it went; it is the probe where the breaker is open. Else ask again after so long."""
        if now < self._held_until:
            return self._held_until - now
        if not self.open:
            return 0.0
        if self._probing or now < self._next_probe:
            return max(self._next_probe - now, self.cool_down_s / 10)
        self._probing = True
        return 0.0

    def down_s(self, now: float) -> float:
        """Seconds since the endpoint was found out of reach; 0 while it is not."""
        return 0.0 if self._down_since is None else now - self._down_since

    def answered(self) -> None:
        """The endpoint works, whatever it said."""
        self._in_a_row, self._down_since, self._probing = 0, None, False

    def failed(self, now: float, *, probe: bool) -> None:
        """A try found no working endpoint."""
        self._in_a_row += 1
        self._probing = self._probing and not probe
        if self._in_a_row >= self.failures_to_open:
            self._down_since = now if self._down_since is None else self._down_since
            self._next_probe = now + self.cool_down_s

    def throttled(self, now: float, hold_s: float) -> None:
        """The endpoint works but wants fewer requests: nothing is sent for so long."""
        self.answered()
        self.hold(now, hold_s)

    def hold(self, now: float, hold_s: float) -> None:
        """Nothing is sent for so long, because the endpoint has asked for it."""
        self._held_until = max(self._held_until, now + hold_s)

    def abandoned(self) -> None:
        """The probe was given up from our side; another may be sent."""
        self._probing = False
