"""How long a test waits for what other processes do: so many seconds on an idle machine, more where the cores are shared.

A limit of wall time alone fails on a crowded machine and says nothing of the code. Tests that wait take their limits from here.
"""

import os
import time


class Deadline:
    """`within_s` of a core of one's own: a second counts less where more processes want to run than there are cores."""

    def __init__(self, within_s: float) -> None:
        self.within_s = within_s
        self._used_s = 0.0
        self._looked = time.monotonic()

    @property
    def ahead(self) -> bool:
        """Whether there is time left; asked again and again by whoever waits."""
        now = time.monotonic()
        self._used_s += (now - self._looked) / crowding()
        self._looked = now
        return self._used_s < self.within_s


def crowding() -> float:
    """Processes that want to run for each core, over the last minute; 1 at least."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
