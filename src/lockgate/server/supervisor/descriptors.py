"""Opens the sockets and the TUN device that the edge inherits."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.config.values import Address, Endpoint

# linux/if_tun.h
TUNSETIFF = 0x400454CA
TUNSETOFFLOAD = 0x400454D0
IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_TSO_ECN = 0x01, 0x02, 0x04, 0x08
TUN_F_USO4, TUN_F_USO6 = 0x20, 0x40
IFNAMSIZ = 16

# One fast flow fills the default UDP buffers within a millisecond and collapses.
UDP_BUFFER = 4 << 20
# Connections that wait while an edge restarts; also what a burst of reconnects needs.
BACKLOG = 1024


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET6 if address.version == 6 else socket.AF_INET


def _bind(kind: socket.SocketKind, endpoint: Endpoint, purpose: str) -> socket.socket:
    sock = socket.socket(_family(endpoint.address), kind)
    try:
        if endpoint.address.version == 6:
            # One socket per configured address: [::] must not take over 0.0.0.0 as well.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((str(endpoint.address), endpoint.port))
    except OSError as error:
        sock.close()
        raise ProblemError(_bind_problem(endpoint, purpose, error)) from None
    sock.setblocking(False)
    return sock


def _bind_problem(endpoint: Endpoint, purpose: str, error: OSError) -> Problem:
    fixes = {
        "EADDRINUSE": "Stop the program that uses this port, or choose another port in config.toml.",
        "EADDRNOTAVAIL": "Give this machine the address, or correct it in config.toml.",
        "EACCES": "Ports below 1024 need root (or CAP_NET_BIND_SERVICE); start as root or choose another port.",
        "EAFNOSUPPORT": "This kernel has no IPv6; remove the IPv6 addresses from config.toml.",
    }
    name = errno.errorcode.get(error.errno or 0, "")
    return Problem(
        code="listen-failed",
        summary=f"Cannot listen on {endpoint} ({purpose}): {error.strerror}.",
        fix=fixes.get(name, "Correct the address in config.toml."),
    )


def open_listener(endpoint: Endpoint, purpose: str) -> socket.socket:
    """A listening TCP socket. Raises ProblemError with what to do."""
    sock = _bind(socket.SOCK_STREAM, endpoint, purpose)
    sock.listen(BACKLOG)
    return sock


def open_udp(endpoint: Endpoint) -> socket.socket:
    """A UDP socket for ESP with large buffers. Raises ProblemError with what to do."""
    sock = _bind(socket.SOCK_DGRAM, endpoint, "ESP")
    so_rcvbufforce, so_sndbufforce = 33, 32  # asm-generic/socket.h; beyond net.core.rmem_max
    for forced, plain in ((so_rcvbufforce, socket.SO_RCVBUF), (so_sndbufforce, socket.SO_SNDBUF)):
        try:
            sock.setsockopt(socket.SOL_SOCKET, forced, UDP_BUFFER)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, plain, UDP_BUFFER)
    return sock


def open_tun(name: str) -> tuple[int, bool]:
    """Creates the TUN device `name`; returns its descriptor, non-blocking, and whether it segments UDP.

    With virtio-net headers (10 bytes before each packet), without packet information, and with every
    segmentation offload that the kernel takes. The device lives as long as the descriptor.
    Raises ProblemError with what to do.
    """
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ProblemError(
            Problem(
                code="tun-missing",
                summary=f"Cannot open /dev/net/tun: {error.strerror}.",
                fix="Load the kernel module `tun`, and allow the device in the container if there is one.",
            )
        ) from None
    try:
        flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode()[: IFNAMSIZ - 1], flags))
        basic = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN
        try:
            fcntl.ioctl(fd, TUNSETOFFLOAD, basic | TUN_F_USO4 | TUN_F_USO6)
            takes_udp = True
        except OSError:  # UDP segmentation came with Linux 6.2
            fcntl.ioctl(fd, TUNSETOFFLOAD, basic)
            takes_udp = False
    except PermissionError:
        os.close(fd)
        raise ProblemError(
            Problem(
                code="tun-refused",
                summary=f"The kernel does not let this user create the network device {name}.",
                fix="Start as root, or inside a network namespace of your own (unshare -Urn).",
            )
        ) from None
    except OSError as error:
        os.close(fd)
        raise ProblemError(
            Problem(
                code="tun-failed",
                summary=f"Cannot create the network device {name}: {error.strerror}.",
                fix="Is another server running with the same tun_name? Choose another in config.toml.",
            )
        ) from None
    return fd, takes_udp
