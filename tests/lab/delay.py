"""`python -m tests.lab.delay INTERFACE MILLISECONDS`: a TUN device that gives every packet back, later.

The router sends passing packets here by policy routing; they come back in order after the delay and are then
routed as they would have been. Good for some ten thousand packets a second, which is what latency tests need.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import sys
import time
from collections import deque

_TUNSETIFF = 0x400454CA  # linux/if_tun.h, with the two flags below
_IFF_TUN = 0x0001
_IFF_NO_PI = 0x1000
_QUEUE = 20_000
"""Packets held at most; more are dropped, as a full router does. At 1500 bytes: 30 MB."""


def main(interface: str, milliseconds: float) -> None:
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", interface.encode(), _IFF_TUN | _IFF_NO_PI))
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


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
