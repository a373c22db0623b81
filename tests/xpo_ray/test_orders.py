"""Orders are surpassed, never taken back, and wake whoever waits."""

import asyncio
import threading

import pytest

from xpo_ray.errors import Cancelled, Paused, Superseded
from xpo_ray.orders import Orders
from xpo_ray.run_states import Wanted


def test_a_lesser_order_changes_nothing() -> None:
    orders = Orders()
    for asked, stands in (("pause", "pause"), ("run", "pause"), ("cancel", "cancel"), ("pause", "cancel")):
        orders.give(asked)  # type: ignore[arg-type]
        assert orders.wanted == stands


@pytest.mark.parametrize(("wanted", "kind"), [("pause", Paused), ("cancel", Cancelled), ("superseded", Superseded)])
def test_each_order_stops_in_its_own_way(wanted: Wanted, kind: type) -> None:
    orders = Orders()
    orders.give(wanted)
    assert type(orders.stopped()) is kind


def test_an_order_from_another_thread_wakes_the_loop() -> None:
    orders = Orders()

    async def wait() -> str:
        threading.Timer(0.05, orders.give, ("pause",)).start()
        return await asyncio.wait_for(orders.surpass("run"), 5)

    assert asyncio.run(wait()) == "pause"
