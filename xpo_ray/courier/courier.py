"""An attempt's courier: claims it, keeps in touch while it works, and carries its last word."""

import secrets
import threading
from importlib.metadata import version
from pathlib import Path
from typing import Any

from xpo_ray.attempts import VERSIONED
from xpo_ray.courier.connection import Away, Connection, Patience, Refused
from xpo_ray.courier.heartbeat import HeartbeatThread
from xpo_ray.courier.shipper import JournalFile, Shipper
from xpo_ray.errors import Superseded
from xpo_ray.orders import Orders
from xpo_ray.run_states import Ending
from xpo_ray.wire.attempts import AttemptEnd, Claim, Granted
from xpo_ray.wire.attempts import Orders as Answer
from xpo_ray.wire.runs import RunError


class Courier:
    """What stands between a driver and the service once the attempt was granted."""

    def __init__(self, connection: Connection, root: Path, number: int, granted: Granted) -> None:
        self.granted = granted
        self.orders = Orders()
        self.orders.give(granted.wanted)
        self._connection = connection
        journals = [
            JournalFile(root / "attempts" / f"{n:04d}" / "journal.jsonl", n, granted.shipped.get(n, 0))
            for n in range(1, number + 1)
        ]
        self._shipper = Shipper(connection, self.orders, journals)
        self._heartbeat = HeartbeatThread(connection, self.orders, granted.heartbeat_s)

    def start(self) -> None:
        """Begin to ship the journal and to beat."""
        self._shipper.start()
        self._heartbeat.start()

    def end(self, ending: Ending, error: RunError | None = None, result: dict[str, Any] | None = None) -> None:
        """Ship the rest of the journal, then say how the attempt ended; waits as long as the service is away.

        Raises Superseded where the service does not take it."""
        if not self._shipper.finish():
            raise Superseded("the service no longer takes the journal of this attempt")
        patience, last = Patience(), AttemptEnd(ending=ending, error=error, result=result)
        while True:
            try:
                self._connection.call("end", last, Answer)
                break
            except Away:
                patience.wait(threading.Event())
            except Refused as refused:
                raise Superseded(f"the service does not take the end of this attempt: {refused}") from refused
        self.close()

    def close(self) -> None:
        """Say nothing more."""
        self._heartbeat.stop()


def claim_attempt(api: str, run_id: str, number: int, root: Path) -> Courier:
    """Claim an attempt by the ticket that lies in its folder; waits while the service is away.

    Raises ServiceRefused where the attempt is another driver's, or has been superseded."""
    ticket = (root / "attempts" / f"{number:04d}" / "ticket").read_text().strip()
    connection, patience = Connection(api, run_id, number), Patience()
    versions = {name: version(name) for name in VERSIONED}
    asked = Claim(ticket=ticket, nonce=secrets.token_hex(32), versions=versions)
    while True:
        try:
            granted = connection.call("claim", asked, Granted)
            break
        except Away:
            patience.wait(threading.Event())
    connection.token = granted.token
    return Courier(connection, root, number, granted)
