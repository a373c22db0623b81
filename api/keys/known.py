"""Callers that were looked up a moment ago, so that not every call asks the database who calls.

`auth` keeps callers here, by the hash of what they showed, and asks first. Whoever changes a key or a login calls `forget`
after the transaction: in this process it takes effect at once. In others on the same database it takes KEPT_FOR at most.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xpo_ray.api.auth import Principal

KEPT_FOR = timedelta(seconds=2)
MOST = 10_000


@dataclass(frozen=True)
class Known:
    """A caller, and how long that may be believed: never beyond the end of the key or of the login."""

    principal: "Principal"
    since: datetime
    until: datetime


class KnownCallers:
    """Callers by what they showed."""

    def __init__(self) -> None:
        self._known: dict[str, Known] = {}
        self._lock = Lock()
        self.changes = 0
        """Times that something was changed; read it before a look-up whose outcome is to be kept."""

    def get(self, token: str, now: datetime) -> "Principal | None":
        """The caller, if he was looked up just now."""
        known = self._known.get(token)
        return known.principal if known is not None and known.since <= now < known.until else None

    def keep(self, token: str, known: Known, changes: int) -> None:
        """Keep what was looked up, unless something was changed since `changes` was read."""
        with self._lock:
            if changes != self.changes:
                return
            if len(self._known) >= MOST:
                self._known.clear()
            self._known[token] = known

    def forget(self) -> None:
        """A key or a login was changed: look everybody up again."""
        with self._lock:
            self.changes += 1
            self._known.clear()
