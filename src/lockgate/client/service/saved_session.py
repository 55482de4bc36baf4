"""What outlives the service of one connection: enough to take it up again without the user.

One file a connection in the state directory, readable by root alone: it holds the session's cookie. It is
written before the tunnel is used and removed when the session is over.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from lockgate.client.segments import Address
from lockgate.client.service.clock import Clock
from lockgate.client.service.dialer import Expectation
from lockgate.client.service.files import read_private, write_private
from lockgate.client.settings import ConnectionSettings
from lockgate.protocol.gateway_url import parse_gateway_url
from lockgate.protocol.pulse.config import TunnelConfig, decode_config
from lockgate.protocol.pulse.split_networks import decode_split_networks
from lockgate.protocol.secret import Secret

DIRECTORY = "sessions"


@dataclass(slots=True)
class SavedSession:
    """Mutable: the connection keeps it true and saves it. Times are those of `clock.Clock`."""

    connection: str
    uid: int
    settings: ConnectionSettings
    session: int  # number in the edge
    generation: int
    cookie: Secret
    key: Secret  # Ed25519, 32 bytes raw
    server_pin: bytes  # of the certificate at sign-in
    verified: bool  # that certificate was good by itself
    started: float
    deadline: float  # 0: not told
    idle: int
    user: str
    realm: str
    configuration: bytes = b""  # body of the configuration frame
    split: bytes = b""  # body of the last frame about split-tunnel networks, none since the configuration
    extended: bool = False
    conn: int = 0  # attached in the edge
    peer: str = ""
    proxy: str = ""
    local: str = ""
    interface: str = ""
    suspended: bool = False
    tls: tuple[str, str, str] = ("", "", "")  # version, cipher, group
    addresses: dict[str, tuple[Address, ...]] = field(default_factory=dict)  # of gateway or proxy, by name

    def config(self) -> TunnelConfig:
        """What the tunnel is configured with. PeerError where that is no configuration."""
        config = decode_config(self.configuration)
        if not self.split:
            return config
        include, exclude = decode_split_networks(self.split)
        return replace(config, include=include, exclude=exclude)

    def expected(self) -> Expectation:
        """What a resumption demands of whoever answers."""
        return Expectation(self.server_pin, self.verified, self.addresses)


class SessionStore:
    """The files of all connections."""

    def __init__(self, state_directory: Path, clock: Clock) -> None:
        self._directory, self._clock = state_directory / DIRECTORY, clock
        self._directory.mkdir(mode=0o700, exist_ok=True)

    def save(self, saved: SavedSession) -> None:
        """ProblemError when the disk does not take it; the former file stays then."""
        write_private(self._path(saved.connection), json.dumps(_dump(saved, self._clock)))

    def remove(self, connection: str) -> None:
        self._path(connection).unlink(missing_ok=True)

    def load_all(self) -> list[SavedSession]:
        """Every readable one; a damaged file is removed, its session is then signed in to anew."""
        found = []
        for path in sorted(self._directory.glob("*.json")):
            text = read_private(path)
            try:
                found.append(_load(json.loads(text or ""), self._clock))
            except (ValueError, KeyError, TypeError, AttributeError):
                path.unlink(missing_ok=True)
        return found

    def _path(self, connection: str) -> Path:
        assert connection.isalnum()
        return self._directory / f"{connection}.json"


_PLAIN = [
    "connection",
    "uid",
    "session",
    "generation",
    "verified",
    "idle",
    "user",
    "realm",
    "extended",
    "conn",
    "peer",
    "proxy",
    "local",
    "interface",
    "suspended",
]


def _dump(saved: SavedSession, clock: Clock) -> dict[str, Any]:
    settings = saved.settings
    return {
        **{name: getattr(saved, name) for name in _PLAIN},
        "started": clock.keep(saved.started),
        "deadline": clock.keep(saved.deadline) if saved.deadline else None,
        "cookie": _text(saved.cookie.reveal()),
        "key": _text(saved.key.reveal()),
        "server_pin": _text(saved.server_pin),
        "configuration": _text(saved.configuration),
        "split": _text(saved.split),
        "tls": list(saved.tls),
        "addresses": {name: [str(one) for one in found] for name, found in saved.addresses.items()},
        "settings": {
            "server": str(settings.server),
            "name": settings.name,
            "user": settings.user,
            "realm": settings.realm,
            "roots": [_text(root) for root in settings.roots],
            "pin": _text(settings.pin),
            "esp": settings.esp,
            "proxy": settings.proxy,
            "background": settings.background,
            "trust_prompt": settings.trust_prompt,
        },
    }


def _load(document: dict[str, Any], clock: Clock) -> SavedSession:
    plain = dict(document["settings"])
    plain["server"] = parse_gateway_url(plain["server"])
    plain["roots"] = tuple(_bytes(root) for root in plain["roots"])
    plain["pin"] = _bytes(plain["pin"])
    connection = document["connection"]
    if not (isinstance(connection, str) and connection.isalnum()):
        raise ValueError("not a connection's name")
    version, cipher, group = document["tls"]
    return SavedSession(
        **{name: document[name] for name in _PLAIN},
        settings=ConnectionSettings(**plain),
        started=clock.found(document["started"]),
        deadline=clock.found(document["deadline"]) if document["deadline"] is not None else 0.0,
        cookie=Secret(_bytes(document["cookie"])),
        key=Secret(_bytes(document["key"])),
        server_pin=_bytes(document["server_pin"]),
        configuration=_bytes(document["configuration"]),
        split=_bytes(document.get("split", "")),  # files of before names were followed have none
        tls=(version, cipher, group),
        addresses={
            name: tuple(ip_address(one) for one in found) for name, found in document["addresses"].items()
        },
    )


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
