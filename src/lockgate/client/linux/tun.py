"""The TUN device that a tunnel's packets go through."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from dataclasses import dataclass

from lockgate.model.problem import Problem, ProblemError

NAME = "lockgate%d"
"""The kernel puts the first free number in."""

# linux/if_tun.h
_TUNSETIFF = 0x400454CA
_TUNSETOFFLOAD = 0x400454D0
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
_TUN_F_CSUM, _TUN_F_TSO4, _TUN_F_TSO6, _TUN_F_TSO_ECN = 0x01, 0x02, 0x04, 0x08
_TUN_F_USO4, _TUN_F_USO6 = 0x20, 0x40
_NAME_LENGTH = 15  # bytes, without the final zero: IFNAMSIZ, linux/if.h
_IFREQ = struct.Struct("16sH22x")


@dataclass(slots=True)
class Tun:
    """A TUN device, down and without addresses; it lives as long as a descriptor of it, ours or a copy.

    fd:         non-blocking; each packet follows a virtio-net header of 10 bytes, no packet information.
    takes_udp:  the kernel segments UDP too (Linux 6.2 and later), beside checksums and TCP.
    """

    fd: int
    name: str
    index: int
    takes_udp: bool

    def close(self) -> None:
        """Twice does no harm."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def open_tun(name: str = NAME) -> Tun:
    """Create a TUN device. name: at most 15 bytes, `%d` is replaced by the first free number.

    raises: ProblemError tun-missing (no /dev/net/tun), tun-refused (no right to), tun-failed (the rest).
    """
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ProblemError(
            Problem(
                "tun-missing",
                f"Cannot open /dev/net/tun: {error.strerror}.",
                "Load the kernel module `tun`, and allow the device in the container if there is one.",
            )
        ) from None
    try:
        flags = _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR
        answer = fcntl.ioctl(fd, _TUNSETIFF, _IFREQ.pack(name.encode()[:_NAME_LENGTH], flags))
        actual = _IFREQ.unpack(answer)[0].rstrip(b"\0").decode()
        return Tun(fd, actual, socket.if_nametoindex(actual), _offload(fd))
    except OSError as error:
        os.close(fd)
        raise ProblemError(_problem(name, error)) from None


def _offload(fd: int) -> bool:
    basic = _TUN_F_CSUM | _TUN_F_TSO4 | _TUN_F_TSO6 | _TUN_F_TSO_ECN
    try:
        fcntl.ioctl(fd, _TUNSETOFFLOAD, basic | _TUN_F_USO4 | _TUN_F_USO6)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        fcntl.ioctl(fd, _TUNSETOFFLOAD, basic)
        return False
    return True


def _problem(name: str, error: OSError) -> Problem:
    if error.errno in (errno.EPERM, errno.EACCES):
        return Problem(
            "tun-refused",
            f"The kernel does not let this program create the network device {name}.",
            "Run the client service as root.",
        )
    return Problem(
        "tun-failed",
        f"Cannot create the network device {name}: {error.strerror}.",
        "`lockgate client reset` removes what an earlier run may have left; then try again.",
    )
