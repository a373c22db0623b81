"""A thread of the service that does one thing again and again; when it dies, /readyz says so by its name."""

import logging
import threading
from collections.abc import Callable

log = logging.getLogger("xpo_ray.api")


class Background:
    """Calls `once` every `every_s` seconds, or as soon as it is woken. An error is logged and the next turn tries again:
    the world that it looks at (Ray, a disk, a network) may be back by then."""

    def __init__(self, name: str, once: Callable[[], None], every_s: float) -> None:
        self.name = name
        self.failure: str | None = None
        """What the last turn failed with; None when it went well."""
        self._once = once
        self._every_s = every_s
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
            try:
                self._once()
                self.failure = None
            except Exception as error:  # the edge of a thread: nobody above could hear it
                self.failure = f"{type(error).__name__}: {error}"
                log.exception("%s failed; it tries again", self.name)
            self._wake.wait(self._every_s)
