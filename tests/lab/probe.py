"""`python -m tests.lab.probe WHAT …`: small senders that no stock program offers.

    udp ADDRESS PORT SIZE [COUNT]     send datagrams to an echo, succeed when every one came back unchanged;
                                      one without an answer is sent again, five times in all
    udp-silent ADDRESS PORT SIZE      succeed when no answer comes within a second
    tcp ADDRESS PORT SIZE             the same over one TCP connection
    raw HEX…                          send whole IP packets (version nibble first) as they are, by routing
    raw-dev INTERFACE HEX…            the same through one interface, whatever the routing says

The functions below build packets for `raw`. Sums are right, so that only what a test is about is wrong.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import struct
import sys
import threading

ICMP, TCP, UDP, FRAGMENT_HEADER, ICMP6 = 1, 6, 17, 44, 58


def checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip_packet(
    source: str, destination: str, protocol: int, payload: bytes, *, fragment: tuple[int, bool] | None = None
) -> bytes:
    """An IPv4 or IPv6 packet. fragment: offset in bytes (a multiple of 8) and whether more follow."""
    from_, to = ipaddress.ip_address(source).packed, ipaddress.ip_address(destination).packed
    offset, more = fragment or (0, False)
    if len(from_) == 4:
        flags = (offset // 8) | (0x2000 if more else 0)
        head = struct.pack(
            "!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0x4C47, flags, 64, protocol, 0, from_, to
        )
        return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload
    if fragment is not None:
        payload = struct.pack("!BBHI", protocol, 0, offset | int(more), 0x4C4B4754) + payload
        protocol = FRAGMENT_HEADER
    return struct.pack("!IHBB16s16s", 6 << 28, len(payload), protocol, 64, from_, to) + payload


def udp_datagram(source: str, destination: str, port: int, data: bytes, *, source_port: int = 40000) -> bytes:
    """UDP header and data, with the sum over the pseudo-header of either family."""
    from_, to = ipaddress.ip_address(source).packed, ipaddress.ip_address(destination).packed
    length = 8 + len(data)
    pseudo = from_ + to + struct.pack("!HH", UDP, length)  # RFC 768; IPv6's longer fields sum up to the same
    head = struct.pack("!HHH", source_port, port, length)
    return head + struct.pack("!H", checksum(pseudo + head + b"\0\0" + data) or 0xFFFF) + data


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _udp(address: str, port: int, size: int, count: int) -> None:
    with socket.socket(_family(address), socket.SOCK_DGRAM) as peer:
        peer.settimeout(1)
        peer.connect((address, port))
        for _ in range(count):
            data, answer = os.urandom(size), b""
            # The first large answer may be what teaches the echo's host the size that passes.
            for _attempt in range(5):
                try:
                    peer.send(data)
                    answer = peer.recv(65535)
                    break
                except TimeoutError:
                    pass
                except OSError as error:
                    # On the way somebody said what passes there: what is sent next is cut smaller.
                    if error.errno != errno.EMSGSIZE:
                        raise
            if answer != data:
                sys.exit("the echo differs" if answer else "no echo")


def _udp_silent(address: str, port: int, size: int) -> None:
    with socket.socket(_family(address), socket.SOCK_DGRAM) as peer:
        peer.settimeout(1)
        peer.connect((address, port))
        peer.send(os.urandom(size))
        with contextlib.suppress(TimeoutError):
            peer.recv(65535)
            sys.exit("an answer came")


def _tcp(address: str, port: int, size: int) -> None:
    data, received = os.urandom(size), bytearray()
    with socket.create_connection((address, port), timeout=10) as peer:
        sender = threading.Thread(
            target=lambda: (peer.sendall(data), peer.shutdown(socket.SHUT_WR)), daemon=True
        )
        sender.start()
        while block := peer.recv(65536):
            received += block
    if received != data:
        sys.exit("the echo differs")


def _raw(packets: list[bytes]) -> None:
    for packet in packets:
        if packet[0] >> 4 == 4:
            with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as out:
                out.sendto(packet, (str(ipaddress.ip_address(packet[16:20])), 0))
        else:
            with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW) as out:
                out.sendto(packet, (str(ipaddress.ip_address(packet[24:40])), 0))


def _raw_dev(interface: str, packets: list[bytes]) -> None:
    for packet in packets:
        kind = 0x0800 if packet[0] >> 4 == 4 else 0x86DD
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(kind)) as out:
            out.sendto(packet, (interface, kind))


def main(what: str, *arguments: str) -> None:
    match what:
        case "udp":
            _udp(
                arguments[0], int(arguments[1]), int(arguments[2]), int(arguments[3]) if arguments[3:] else 1
            )
        case "udp-silent":
            _udp_silent(arguments[0], int(arguments[1]), int(arguments[2]))
        case "tcp":
            _tcp(arguments[0], int(arguments[1]), int(arguments[2]))
        case "raw":
            _raw([bytes.fromhex(packet) for packet in arguments])
        case "raw-dev":
            _raw_dev(arguments[0], [bytes.fromhex(packet) for packet in arguments[1:]])
        case _:
            sys.exit(f"unknown: {what}")


if __name__ == "__main__":
    main(*sys.argv[1:])
