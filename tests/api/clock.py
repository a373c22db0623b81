"""A clock that tests set."""

from datetime import UTC, datetime, timedelta


class SettableClock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def advance(self, **by: float) -> None:
        """Go on by so many seconds=, minutes=, days=."""
        self.at += timedelta(**by)
