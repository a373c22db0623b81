"""A thread of the service that does one thing again and again; when it dies, /readyz says so by its name."""

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger("xpo_ray.api")
AT_MOST_EVERY_S = 0.1
"""However often it is woken: a hundred submissions a second must not be a hundred turns."""


class Background:
    """Calls `once` every `every_s` seconds, or after as many as it returned, or as soon as it is woken. An error is logged and
    the next turn tries again: the world that it looks at (Ray, a disk, a network) may be back by then."""

    def __init__(
        self,
        name: str,
        once: Callable[[], float | None],
        every_s: float,
        at_most_every_s: float = AT_MOST_EVERY_S,
    ) -> None:
        self.name = name
        self.failure: str | None = None
        """What the last turn failed with; None when it went well."""
        self._once = once
        self._every_s = every_s
        self._at_most_every_s = at_most_every_s
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Do the next turn now."""
        self._wake.set()

    def stop(self, within_s: float = 15.0) -> None:
        """End after the turn under way."""
        self._ending.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(within_s)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._ending.is_set():
            self._wake.clear()
            began, rest_s = time.monotonic(), None
            try:
                rest_s = self._once()
                self.failure = None
            except Exception as error:  # the edge of a thread: nobody above could hear it
                before, self.failure = self.failure, f"{type(error).__name__}: {error}"
                if before != self.failure:  # told once: the log may lie on the disk that is full
                    log.exception("%s failed; it tries again", self.name)
            self._wake.wait(self._every_s if rest_s is None else rest_s)
            if (too_soon := began + self._at_most_every_s - time.monotonic()) > 0:
                self._ending.wait(too_soon)
