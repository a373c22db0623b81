"""The interface towards another machine, on the interfaces that this machine has."""

import socket
import sys

import pytest

from xpo_ray.group.interfaces import interface_towards

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="told on Linux alone")


def test_this_machine_is_reached_by_its_loopback() -> None:
    assert interface_towards("127.0.0.1") == "lo"


def test_another_machine_is_reached_by_an_interface_that_is_not_the_loopback() -> None:
    towards = interface_towards("192.0.2.77")
    if towards is None:
        pytest.skip("this machine has no way to others")
    assert towards != "lo"
    assert towards in [name for _, name in socket.if_nameindex()]


def test_of_what_cannot_be_reached_nothing_is_told() -> None:
    assert interface_towards("::1") is None
