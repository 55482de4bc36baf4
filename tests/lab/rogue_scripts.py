"""What a rogue gateway can be told to do: one table, so that tests go over all of it.

A script behaves like a gateway but for one thing. `STEPS` are the words of a gateway in their order; most
scripts are a deed at one of them, named "deed-step".
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from lockgate.protocol.if_t import HEADER, VENDOR_JUNIPER, Frame, JuniperKind, encode_frame
from lockgate.protocol.pulse.config import TunnelConfig
from lockgate.protocol.pulse.esp_keys import EspKeys, encode_offer
from lockgate.protocol.pulse.server import ServerConversation
from lockgate.protocol.pulse.split_networks import encode_split_networks
from lockgate.protocol.secret import Secret


class Step(StrEnum):
    """What is said next."""

    HTTP = "http"
    VERSION = "version"
    CHALLENGE = "challenge"
    FACTS = "facts"  # the first packet of AVPs
    QUESTION = "question"
    COOKIE = "cookie"
    SUCCESS = "success"
    CONFIG = "config"
    KEYS = "keys"
    END = "end"  # of the configuration
    TUNNEL = "tunnel"  # the tunnel is up; an honest gateway says nothing then


FRAMES = tuple(step for step in Step if step not in (Step.HTTP, Step.TUNNEL))


class Act(StrEnum):
    """What follows a deed."""

    GO_ON = "go on"
    CLOSE = "close"
    STALL = "stall"  # silence until the client leaves


@dataclass(frozen=True)
class Done:
    """What a deed sends in place of the honest words, and what follows."""

    data: bytes
    then: Act = Act.STALL


Deed = Callable[[bytes], Done]
"""Takes what an honest gateway would send: a whole frame or HTTP answer, or nothing in the tunnel."""


@dataclass(frozen=True)
class Ends:
    """The outer addresses of one connection."""

    server: IPv4Address | IPv6Address
    client: IPv4Address | IPv6Address


@dataclass(frozen=True)
class Script:
    """One way to misbehave."""

    says: str
    deeds: Mapping[Step, Deed] = field(default_factory=dict)
    tls: str = ""  # "silent", "stall", "close", "reset", "garbage": instead of finishing the handshake
    config: Callable[[TunnelConfig, Ends], TunnelConfig] = lambda config, _: config
    encoded: Callable[[bytes], bytes] = lambda body: body  # the configuration's body, once encoded
    ask: Callable[[ServerConversation], None] | None = None  # asked again after every answer
    drips: bool = False  # everything in single bytes, slowly
    other_certificate: bool = False  # from the second connection on; the first is closed in the tunnel


def _noise(length: int) -> bytes:
    """The same every time: a failure can be repeated."""
    return random.Random(length).randbytes(length)


# -- deeds at one step ------------------------------------------------------------------------------------


def _close(honest: bytes) -> Done:
    return Done(honest, Act.CLOSE)


def _cut(honest: bytes) -> Done:
    return Done(honest[: len(honest) // 2], Act.CLOSE)


def _stall(_: bytes) -> Done:
    return Done(b"")


def _garbage(_: bytes) -> Done:
    return Done(_noise(512))


def _body(honest: bytes) -> Done:
    """The right header, and noise of the right length behind it."""
    return Done(honest[:HEADER] + _noise(len(honest) - HEADER))


def _declared(length: int) -> Deed:
    def deed(honest: bytes) -> Done:
        return Done(honest[:8] + struct.pack("!I", length) + honest[12:HEADER] + bytes(1 << 16))

    return deed


def _twice(honest: bytes) -> Done:
    return Done(honest + honest, Act.GO_ON)


def _fatal(_: bytes) -> Done:
    return Done(_frame(JuniperKind.FATAL, b"errorType=7 errorString=The%20end%1b%5B31m\n"), Act.CLOSE)


def _instead(data: bytes, then: Act = Act.STALL) -> Deed:
    return lambda _: Done(data, then)


def _frame(kind: int, body: bytes) -> bytes:
    return encode_frame(Frame(VENDOR_JUNIPER, kind, body), 0)


_AT_FRAMES: dict[str, tuple[str, Deed]] = {
    "body": ("sends noise behind the right header", _body),
    "huge": ("declares a frame of 4 GiB", _declared(0xFFFFFFFF)),
    "short": ("declares a frame of 3 bytes", _declared(3)),
    "twice": ("sends it twice", _twice),
}
_ANYWHERE: dict[str, tuple[str, Deed]] = {
    "close": ("closes after it", _close),
    "cut": ("closes in the middle of it", _cut),
    "stall": ("stops before it", _stall),
    "garbage": ("sends noise in its place", _garbage),
    "fatal": ("sends a fatal frame in its place", _fatal),
}


def _at_steps() -> dict[str, Script]:
    made = {}
    for step in Step:
        deeds = dict(_ANYWHERE)
        if step in FRAMES:
            deeds |= _AT_FRAMES
        if step is Step.TUNNEL:
            del deeds["cut"], deeds["stall"]  # there are no words to cut; silence is "swallow"
        for name, (says, deed) in deeds.items():
            made[f"{name}-{step}"] = Script(f"{step}: {says}", {step: deed})
    return made


# -- answers to the request ---------------------------------------------------------------------------


def _http(status: str, *headers: str, body: bytes = b"", then: Act = Act.CLOSE) -> Script:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return Script(f"answers {status}", {Step.HTTP: _instead("\r\n".join(lines).encode() + body, then)})


_HTTP = {
    "http-200": _http("200 OK", "Content-Type: text/html", body=b"<h1>Welcome\x1b[31m</h1>"),
    "http-302": _http("302 Found", "Location: https://elsewhere.example/"),
    "http-401": _http("401 Unauthorized", 'WWW-Authenticate: Basic realm="x"'),
    "http-503": _http("503 Service Unavailable", "Retry-After: 86400", then=Act.STALL),
    "http-lines": Script(
        "headers without end", {Step.HTTP: _instead(b"HTTP/1.1 101 Switching Protocols\r\n" + b"A: b\r\n" * 100_000)}
    ),
    "http-line": Script("a status line without end", {Step.HTTP: _instead(b"HTTP/1.1 101 " + b"x" * 500_000)}),
}  # fmt: skip


# -- sign-in ----------------------------------------------------------------------------------------------

_TRICKS = "\x1b[2J\x1b]0;title\x07\r\n\N{RIGHT-TO-LEFT OVERRIDE}" + "very long " * 400

_QUESTIONS = {
    "endless-passwords": Script("asks for the password for ever", ask=lambda c: c.ask_credentials(retry=True)),
    "endless-tokens": Script("asks for a code for ever", ask=lambda c: c.ask_token("Code?")),
    "endless-notices": Script("shows a notice for ever", ask=lambda c: c.notify("Please wait.")),
    "endless-realms": Script("asks for the realm for ever", ask=lambda c: c.ask_realm(["A", "B"])),
    "tricky-notice": Script("a notice that steers terminals", ask=lambda c: c.notify(_TRICKS)),
    "tricky-realms": Script("realms that steer terminals", ask=lambda c: c.ask_realm(["A\x1b[2J\n", "B" * 4000])),
    "tricky-labels": Script(
        "labels that steer terminals",
        ask=lambda c: c.ask_credentials(user_label="U\x1b[2J\r" * 50, password_label="P\n" * 500),
    ),
}  # fmt: skip


# -- configurations ---------------------------------------------------------------------------------------


def _config(says: str, **changes: object) -> Script:
    return Script(says, config=lambda config, _: replace(config, **changes))  # type: ignore[arg-type]


def _mtu(value: int) -> Script:
    """Not through the encoder: that refuses such numbers."""
    attribute = struct.pack("!HH", 0x4005, 4)

    def encoded(body: bytes) -> bytes:
        before, found, after = body.partition(attribute)
        assert found
        return before + attribute + struct.pack("!I", value) + after[4:]

    return Script(f"gives an MTU of {value}", encoded=encoded)


def _networks(*texts: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(map(ip_network, texts))


def _inner_is_server(config: TunnelConfig, ends: Ends) -> TunnelConfig:
    return _with_address(config, ends.server)


def _inner_is_client(config: TunnelConfig, ends: Ends) -> TunnelConfig:
    return _with_address(config, ends.client)


def _with_address(config: TunnelConfig, address: IPv4Address | IPv6Address) -> TunnelConfig:
    assert isinstance(address, IPv4Address), "this script needs IPv4 outside"
    return replace(config, address4=address)


def _includes_server(config: TunnelConfig, ends: Ends) -> TunnelConfig:
    return replace(config, include=(*config.include, ip_network(ends.server)))


def _overlaps_client(config: TunnelConfig, ends: Ends) -> TunnelConfig:
    """The inner address and the network behind the tunnel are those of the client's own network."""
    assert isinstance(ends.client, IPv4Address), "this script needs IPv4 outside"
    network = IPv4Network((ends.client, 24), strict=False)
    inner = network[200] if ends.client != network[200] else network[201]
    return replace(config, address4=inner, include=(network,))


_CONFIGURATIONS = {
    "mtu-0": _mtu(0),
    "mtu-1": _mtu(1),
    "mtu-500": _mtu(500),
    "mtu-65535": _mtu(65535),
    "mtu-4294967295": _mtu(0xFFFFFFFF),
    "routes-everything": _config("0.0.0.0/0 and ::/0 among split networks", include=_networks("0.0.0.0/0", "::/0", "10.77.0.0/16")),
    "routes-halves": _config("everything in two halves", include=_networks("0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1")),
    "routes-none": _config("excludes everything", exclude=_networks("0.0.0.0/0", "::/0")),
    "routes-special": _config("loopback, link-local and multicast through the tunnel", include=_networks("127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "::1/128", "fe80::/10", "ff00::/8")),
    "routes-server": Script("its own address through the tunnel", config=_includes_server),
    "routes-many": _config("as many networks as fit", include=tuple(IPv4Network(((10 << 24) + (n << 8), 24)) for n in range(255))),
    "routes-local": Script("the client's own network through the tunnel", config=_overlaps_client),
    "inner-server": Script("its own address as the inner one", config=_inner_is_server),
    "inner-client": Script("the client's outer address as the inner one", config=_inner_is_client),
    "inner-loopback": _config("127.0.0.1 as the inner address", address4=ip_address("127.0.0.1")),
    "inner-multicast": _config("224.0.0.1 as the inner address", address4=ip_address("224.0.0.1")),
    "inner-zero": _config("0.0.0.0 as the inner address", address4=ip_address("0.0.0.0")),
    "dns-silent": _config("DNS servers that do not answer", dns=(ip_address("10.77.0.53"), ip_address("10.77.0.54"))),
    "dns-loopback": _config("127.0.0.1 and ::1 as DNS servers", dns=(ip_address("127.0.0.1"), ip_address("::1"))),
    "dns-many": _config("200 DNS servers", dns=tuple(ip_address("10.77.1.0") + n for n in range(200))),
    "domains-many": _config("1000 search domains", search_domains=tuple(f"d{n}.example" for n in range(1000))),
    "domains-root": _config("search domains that are everything", search_domains=(".", "com", "*")),
}  # fmt: skip


# -- tunnel ------------------------------------------------------------------------------------------------


def _data(_: bytes) -> Done:
    return Done(b"".join(_frame(JuniperKind.DATA, _noise(n)) for n in range(1500)), Act.GO_ON)


def _unknown(_: bytes) -> Done:
    return Done(b"".join(_frame(kind, b"?") for kind in range(0x200, 0x400)), Act.GO_ON)


def _rekeys(_: bytes) -> Done:
    offers = (encode_offer(EspKeys(n, Secret(_noise(64)))) for n in range(1, 300))
    return Done(b"".join(_frame(JuniperKind.CONFIG, offer) for offer in offers), Act.GO_ON)


def _split(*told: tuple[tuple[str, ...], tuple[str, ...]]) -> Deed:
    """Includes and excludes, one after the other."""
    frames = [
        _frame(JuniperKind.SPLIT_NETWORKS, encode_split_networks(_networks(*include), _networks(*exclude)))
        for include, exclude in told
    ]
    return lambda _: Done(b"".join(frames), Act.GO_ON)


_SPECIAL = ("127.0.0.0/8", "169.254.169.254/32", "224.0.0.0/4", "::1/128", "fe80::/10", "ff00::/8")

_TUNNELS = {
    "swallow": Script("a tunnel from which nothing comes back"),
    "data-flood": Script("noise as packets", {Step.TUNNEL: _data}),
    "unknown-flood": Script("frames of unknown kinds", {Step.TUNNEL: _unknown}),
    "rekey-flood": Script("new ESP keys all the time", {Step.TUNNEL: _rekeys}),
    "split-special": Script("loopback, link-local and multicast through the running tunnel", {Step.TUNNEL: _split((_SPECIAL, ()))}),
    "split-none": Script("excludes everything from the running tunnel", {Step.TUNNEL: _split(((), ("0.0.0.0/0", "::/0")))}),
    "split-often": Script(
        "other split networks again and again",
        {Step.TUNNEL: _split(*(((f"10.77.{number}.0/24", "10.77.0.0/24"), ()) for number in range(1, 21)))},
    ),
    "other-certificate": Script("another certificate on the second connection", other_certificate=True),
}  # fmt: skip

_TLS = {
    "tls-silent": Script("takes the connection and says nothing", tls="silent"),
    "tls-stall": Script("stops in the middle of its handshake", tls="stall"),
    "tls-close": Script("closes in the middle of its handshake", tls="close"),
    "tls-reset": Script("resets the connection after the client's hello", tls="reset"),
    "tls-garbage": Script("answers the client's hello with noise", tls="garbage"),
    "drip": Script("sends everything in single bytes, slowly", drips=True),
}

SCRIPTS: dict[str, Script] = {
    **_TLS,
    **_HTTP,
    **_at_steps(),
    **_QUESTIONS,
    **_CONFIGURATIONS,
    **_TUNNELS,
}
