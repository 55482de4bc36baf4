"""What stage one hands to stage two: descriptor numbers, as JSON in an anonymous file."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, slots=True)
class Plan:
    """Descriptors that `prepare` opened; all are inheritable."""

    configuration: str  # the tree as JSON, as it was checked
    tun: int
    tun_takes_udp: bool
    gateway: list[int] = field(default_factory=list)
    admin: list[int] = field(default_factory=list)
    udp: list[int] = field(default_factory=list)
    lock: int = -1

    def descriptors(self) -> list[int]:
        return [self.tun, *self.gateway, *self.admin, *self.udp, self.lock]

    def write(self) -> int:
        """Returns an inheritable descriptor that `read` takes."""
        fd = os.memfd_create("lockgate-plan", 0)
        os.write(fd, json.dumps(asdict(self)).encode())
        os.lseek(fd, 0, os.SEEK_SET)
        os.set_inheritable(fd, True)
        return fd

    @classmethod
    def read(cls, fd: int) -> Plan:
        with os.fdopen(fd, "rb") as file:
            return cls(**json.loads(file.read()))
