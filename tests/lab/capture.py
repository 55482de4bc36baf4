"""`python -m tests.lab.capture INTERFACE FILE`: record IP packets, both directions, into a pcap file.

tcpdump is no use here: run by root it changes to an account of its own, which a user namespace does not have.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from pathlib import Path

_ETH_P_ALL = 0x0003  # linux/if_ether.h
_ETH_P_IP, _ETH_P_IPV6 = 0x0800, 0x86DD
_FILE_HEADER = struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)
"""The pcap format's magic, version, zone, accuracy, longest record, and link type 101: raw IP."""
_RECORD = struct.Struct("=IIII")


def read_packets(file: Path) -> list[bytes]:
    """The IP packets recorded so far; a record still being written is left out."""
    data, at, packets = file.read_bytes(), len(_FILE_HEADER), []
    while at + _RECORD.size <= len(data):
        length = _RECORD.unpack_from(data, at)[2]
        at += _RECORD.size
        if at + length > len(data):
            break
        packets.append(data[at : at + length])
        at += length
    return packets


def esp_spis(packets: list[bytes], gateway: str, port: int, *, to_gateway: bool) -> list[bytes]:
    """SPIs of the ESP packets of one direction, in order of appearance. gateway, port: its IPv4 end."""
    address = bytes(map(int, gateway.split(".")))
    seen: dict[bytes, None] = {}
    for packet in packets:
        is_udp = packet[0] >> 4 == 4 and packet[9] == 17
        if is_udp and (packet[16:20] == address) == to_gateway:
            there = packet[22:24] if to_gateway else packet[20:22]
            if int.from_bytes(there, "big") == port:
                seen.setdefault(packet[28:32])
    return list(seen)


def main(interface: str, file: str) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL)) as packets:
        packets.bind((interface, _ETH_P_ALL))
        packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        with open(file, "wb", buffering=0) as out:
            out.write(_FILE_HEADER)
            print("recording", flush=True)
            while True:
                data, address = packets.recvfrom(65535)
                if address[1] in (_ETH_P_IP, _ETH_P_IPV6):
                    now = time.time_ns()
                    stamp = _RECORD.pack(now // 10**9, now % 10**9 // 1000, len(data), len(data))
                    out.write(stamp + data)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
