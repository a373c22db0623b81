"""Which network interface of this machine leads to another one.

Ranks ask, so that gloo tells the others an address at which they reach this machine: left alone it takes the address that the
machine's own name has here, which on many is 127.0.0.1.
"""

import fcntl
import socket
import struct
import sys

ADDRESS_OF = 0x8915
"""SIOCGIFADDR of Linux."""
NAME_BYTES = 15
ANY_PORT = 9


def interface_towards(host: str) -> str | None:
    """The name of the interface from which this machine reaches `host`; None where that cannot be told: for an address of IPv6,
    a second address of an interface, a system that is not Linux."""
    if sys.platform != "linux":
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, ANY_PORT))  # sends nothing
        except OSError:
            return None
        own = probe.getsockname()[0]
        return next((name for _, name in socket.if_nameindex() if _address(probe, name) == own), None)


def _address(probe: socket.socket, interface: str) -> str | None:
    """The first address of an interface."""
    asked = struct.pack("256s", interface.encode()[:NAME_BYTES])
    try:
        return socket.inet_ntoa(fcntl.ioctl(probe.fileno(), ADDRESS_OF, asked)[20:24])
    except OSError:  # it has none
        return None
