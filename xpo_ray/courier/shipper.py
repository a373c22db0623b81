"""Sends journals to the service, in batches by `seq`: first what earlier attempts did not send, then this attempt's own.

A thread of the driver. It reads the files that the journals are, so that nothing is lost while the service is away.
"""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xpo_ray.courier.connection import Away, Connection, Patience, Refused
from xpo_ray.orders import Orders
from xpo_ray.wire.attempts import JournalBatch, Received

BATCH = 200
EVERY_S = 0.5
OF_THE_END = frozenset({"attempt_superseded", "unauthorized"})


class JournalFile:
    """One attempt's journal from where the service has it; a line that is still being written is left for later."""

    def __init__(self, path: Path, attempt: int, shipped: int) -> None:
        self.attempt = attempt
        self.shipped = shipped
        self._path = path
        self._offset = 0
        self._passed = 0
        """Records before the offset."""

    def batch(self) -> JournalBatch | None:
        """The next records, None where there are no new ones."""
        records = []
        for record, end in self._records():
            self._offset, self._passed = end, self._passed + 1
            if self._passed > self.shipped:
                records.append(record)
            if len(records) == BATCH:
                break
        if not records:
            return None
        return JournalBatch(attempt=self.attempt, first=self.shipped + 1, records=records)

    def rewind(self, shipped: int) -> None:
        """Begin again behind what the service says that it has."""
        self.shipped, self._offset, self._passed = shipped, 0, 0

    def _records(self) -> Iterator[tuple[dict[str, Any], int]]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                yield json.loads(line), file.tell()


class Shipper:
    """Ships until `finish`, which ships the rest."""

    def __init__(self, connection: Connection, orders: Orders, journals: list[JournalFile]) -> None:
        self._connection = connection
        self._orders = orders
        self._journals = journals
        self._finishing = threading.Event()
        self._broken = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journal-shipper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def finish(self, within_s: float | None = None) -> bool:
        """Ship the rest, however long the service is away; says whether all of it was taken."""
        self._finishing.set()
        self._thread.join(within_s)
        return not self._thread.is_alive() and not self._broken.is_set()

    def _run(self) -> None:
        patience = Patience()
        while not self._broken.is_set():
            last = self._finishing.is_set()
            try:
                self._ship_all()
                patience.reset()
            except Away:
                patience.wait(self._broken)
                continue
            except Refused as refused:
                self._refused(refused)
                continue
            if last:
                return
            self._finishing.wait(EVERY_S)

    def _ship_all(self) -> None:
        for journal in self._journals:
            while (batch := journal.batch()) is not None:
                try:
                    journal.shipped = self._connection.call("journal", batch, Received).shipped
                except Away:
                    journal.rewind(journal.shipped)
                    raise
                except Refused as refused:
                    if refused.code != "journal_gap" or journal.shipped == 0:
                        raise
                    journal.rewind(0)  # the service knows less than it did: an older state of its database

    def _refused(self, refused: Refused) -> None:
        self._broken.set()
        if refused.code in OF_THE_END:
            self._orders.give("superseded")
