"""The heartbeat of a driver: a thread that tells the service that it lives, and hears what is wanted."""

import threading

from xpo_ray.courier.connection import Away, Connection, Patience, Refused
from xpo_ray.orders import Orders
from xpo_ray.wire.attempts import Heartbeat
from xpo_ray.wire.attempts import Orders as Answer


class HeartbeatThread:
    """Beats until it is stopped. A refusal supersedes the attempt; an absent service changes nothing."""

    def __init__(self, connection: Connection, orders: Orders, every_s: float) -> None:
        self._connection = connection
        self._orders = orders
        self._every_s = every_s
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """No further beats; one that waits for its answer is left alone."""
        self._ending.set()

    def _run(self) -> None:
        patience = Patience(self._every_s)  # a service that is back must hear of this driver within its lease
        while not self._ending.is_set():
            wait_s = min(self._every_s, 30.0)
            asked = Heartbeat(known=self._orders.wanted, wait_s=wait_s)
            try:
                self._orders.give(self._connection.call("heartbeat", asked, Answer, wait_s=wait_s).wanted)
                patience.reset()
            except Away:
                patience.wait(self._ending)
                continue
            except Refused:
                self._orders.give("superseded")
                return
            self._ending.wait(0.2)
