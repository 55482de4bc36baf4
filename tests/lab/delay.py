"""`python -m tests.lab.delay INTERFACE MILLISECONDS [RELAY PERCENT]`: a TUN device that gives every packet back, later.

The router sends passing packets here by policy routing; they come back in order after the delay and are then
routed as they would have been. Good for some ten thousand packets a second, which is what latency tests need.

RELAY is the program `lockgate-path` (dataplane/load), which is fast enough for measurements: it gets the device,
takes super-packets, and loses PERCENT of all packets.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import sys
import time
from collections import deque

_TUNSETIFF = 0x400454CA  # linux/if_tun.h, with the flags below
_TUNSETOFFLOAD = 0x400454D0
_IFF_TUN = 0x0001
_IFF_NO_PI = 0x1000
_IFF_VNET_HDR = 0x4000
_OFFLOADS = 0x01 | 0x02 | 0x04  # TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6
_UDP_OFFLOADS = 0x20 | 0x40  # TUN_F_USO4, TUN_F_USO6; newer than the others
_QUEUE = 20_000
"""Packets held at most; more are dropped, as a full router does. At 1500 bytes: 30 MB."""


def _open(interface: str, flags: int) -> int:
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", interface.encode(), flags))
    return tun


def main(interface: str, milliseconds: float) -> None:
    tun = _open(interface, _IFF_TUN | _IFF_NO_PI)
    print("ready", flush=True)
    delay = milliseconds / 1000
    held: deque[tuple[float, bytes]] = deque()
    while True:
        wait = max(0.0, held[0][0] - time.monotonic()) if held else None
        if select.select([tun], [], [], wait)[0]:
            try:
                while len(held) < _QUEUE:
                    held.append((time.monotonic() + delay, os.read(tun, 65535)))
            except BlockingIOError:
                pass
        now = time.monotonic()
        while held and held[0][0] <= now:
            try:
                os.write(tun, held.popleft()[1])
            except OSError as error:
                print(f"a packet was not taken back: {error}", flush=True)


def hand_over(interface: str, milliseconds: str, relay: str, percent: str) -> None:
    """Become the relay, with the device as its standard input."""
    tun = _open(interface, _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR)
    try:
        fcntl.ioctl(tun, _TUNSETOFFLOAD, _OFFLOADS | _UDP_OFFLOADS)
    except OSError:
        fcntl.ioctl(tun, _TUNSETOFFLOAD, _OFFLOADS)
    os.dup2(tun, 0)
    os.execv(relay, [relay, "relay", milliseconds, percent])


if __name__ == "__main__":
    if len(sys.argv) > 3:
        hand_over(*sys.argv[1:])
    else:
        main(sys.argv[1], float(sys.argv[2]))
