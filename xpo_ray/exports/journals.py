"""Reading the journals of a run as events while the newest is still being written. Shippers call this; it writes nothing."""

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from xpo_ray.reporting import Event, read_lines

Recorded = tuple[float, Event]
"""An event and its time, in seconds since the epoch."""
KINDS: dict[str, Any] = {kind.__name__: kind for kind in get_args(Event)}


def journal_of(root: Path, attempt: int) -> Path:
    """Where an attempt's journal lies."""
    return root / "attempts" / f"{attempt:04d}" / "journal.jsonl"


def earlier_events(root: Path, attempt: int) -> Iterator[Recorded]:
    """The events of all attempts before this one, in order."""
    for number in range(1, attempt):
        for line in read_lines(journal_of(root, number)):
            if (found := recorded(line)) is not None:
                yield found


def recorded(line: dict[str, Any]) -> Recorded | None:
    """The event in a line of a journal; None for a kind that this version does not know."""
    kind = KINDS.get(line["type"])
    if kind is None:
        return None
    known = {field.name for field in fields(kind)}
    event: Event = kind(**{name: value for name, value in line.items() if name in known})
    return line["at"], event


class Tail:
    """The events of a journal that is being written, each once, as they come."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def events(self) -> Iterator[Recorded]:
        """What has been written since the last call; a line that is not yet whole is left for the next."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                if (found := recorded(json.loads(line))) is not None:
                    yield found
