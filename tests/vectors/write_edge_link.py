"""Writes edge_link.json: every message of the edge link in every optional shape.

Run `python tests/vectors/write_edge_link.py` after a change of the message set. The Python and the Rust
tests both decode each `hex`, and encode what they got to the same bytes. `name` begins with the
direction (`to_edge/` or `from_edge/`) and the message; `hex` is the MessagePack value without the
length word of the record; `meaning` says what the case is for.
"""

import json
from dataclasses import replace
from pathlib import Path

from lockgate.protocol import edge_link as link
from lockgate.protocol import edge_link_codec
from lockgate.protocol.edge_link import FromEdge, ToEdge, Transport
from lockgate.protocol.secret import Secret

FILE = Path(__file__).with_name("edge_link.json")

U16, U32, U64 = 2**16 - 1, 2**32 - 1, 2**64 - 1
ADDRESS4 = bytes([10, 88, 0, 10])
ADDRESS6 = bytes.fromhex("fd000000000000000000000000000a0a")
KEYS = Secret(bytes(range(64)))
ANY4 = link.Rule(True, None, bytes(4), 0, 0, U16, False)
HTTPS6 = link.Rule(False, 6, ADDRESS6, 128, 443, 443, True)
SA = link.Sa(0xA137DA13, link.Suite.AES256_CBC_SHA256, False, KEYS)
NO_TRAFFIC = link.Traffic(0, 0, 0, 0, 0)
MUCH_TRAFFIC = link.Traffic(127, 128, 256, 65536, U64)
QUIET = link.SessionState(1, 0, 0, b"", ADDRESS6, 0, 0, Transport.NONE, "", (), NO_TRAFFIC)
BUSY = link.SessionState(
    U64,
    U32,
    7,
    ADDRESS4,
    b"",
    3600,
    12,
    Transport.ESP,
    "[2001:db8::2]:4500",
    (256, 0xA137DA13, U32),
    MUCH_TRAFFIC,
    link.Framing.NCP,
)

PASSED = link.Flow(
    U64, True, U32, 0, 6, ADDRESS4, 443, True, 61_000, 60_000, 12, 3400, 10, U64, link.FlowCause.IDLE
)
REFUSED = link.Flow(1, False, 9, None, 58, ADDRESS6, None, False, 0, 0, 0, 0, 1, 80, link.FlowCause.CHANGED)
OTHERS = link.Flow(
    1, False, 9, None, 0, b"", None, True, 60_000, 1, 65536, 2621440, 0, 0, link.FlowCause.INTERVAL
)

TO_EDGE: list[tuple[str, ToEdge, str]] = [
    ("hello", link.ControlHello(link.VERSION), "first message on a link"),
    ("hello/other-version", link.ControlHello(U32), "largest 32-bit number"),
    ("keepalive", link.Keepalive(), "a message without fields is a map with one empty map"),
    ("report_stats", link.ReportStats(), "asked for when somebody looks"),
    (
        "open_session/full",
        link.OpenSession(
            U64,
            3,
            ADDRESS4,
            ADDRESS6,
            1400,
            28800,
            600,
            15,
            42,
            (ANY4, HTTPS6),
            SA,
            True,
            10**7,
            U64,
            U32,
            link.FlowAudit.ALL,
        ),
        "both addresses, two rules, ESP keys, both rates, all flows",
    ),
    (
        "open_session/least",
        link.OpenSession(1, 0, b"", b"", 1280, 0, 0, 0, 0, (), None, False),
        "no address, no rule, no ESP",
    ),
    (
        "open_session/only-v4",
        link.OpenSession(128, 127, ADDRESS4, b"", U16, U32, 256, U32, U64, (ANY4,), None, False),
        "integers at the edges of their MessagePack forms",
    ),
    ("attach", link.Attach(7, 1), "binds connection 7 to session 1"),
    ("frame", link.LinkFrame(7, 0x5597, 5, bytes.fromhex("000a4c01")), "empty challenge to a client"),
    ("frame/empty", link.LinkFrame(U64, 0xA4C, 0x89, b""), "frame without a body"),
    ("frame/long", link.LinkFrame(7, 0xA4C, 0x01, bytes(300)), "a body whose length takes two bytes"),
    ("frame/accepted", link.LinkFrame(7, 0, 0, b""), "an NCP connection is accepted"),
    ("close_conn", link.CloseConn(7), "closes connection 7"),
    ("install_esp_in", link.InstallEspIn(1, 2, SA), "keys the client seals with"),
]
TO_EDGE += [
    (
        f"install_esp_out/{suite}",
        link.InstallEspOut(1, 2, link.Sa(256, suite, suite.endswith("gcm"), KEYS)),
        f"suite {suite}",
    )
    for suite in link.Suite
]
TO_EDGE += [
    ("set_rules", link.SetRules(1, 43, (HTTPS6,), 9), "one rule, and what it is called by"),
    ("set_rules/none", link.SetRules(1, 44, ()), "nothing is allowed any more"),
    ("set_deadline", link.SetDeadline(1, 3600, 600), "both time limits"),
    ("set_limits", link.SetLimits(1, 10**6, 0), "a megabit per second from the client, no limit to it"),
    ("set_limits/flows", link.SetLimits(1, 0, 0, link.FlowAudit.DENIED), "what is denied is recorded"),
    ("close_session", link.CloseSession(1, None), "without a word to the client"),
    (
        "close_session/fatal",
        link.CloseSession(1, link.Fatal(8, "session timed out")),
        "the client is told why",
    ),
    (
        "close_session/text",
        link.CloseSession(1, link.Fatal(7, "Sitzung beendet, schöne Grüße – bis bald")),
        "text outside ASCII, longer than 31 bytes",
    ),
    ("barrier", link.Barrier(U64), "what was sent before is to be in force"),
]

TO_EDGE += [
    (
        "dial/roots",
        link.Dial(9, "gw.test", (bytes(300), bytes(40)), b"", "gw.test:8443", "/users", "Lockgate/0.1"),
        "chain, name and time must verify",
    ),
    ("dial/pin", link.Dial(9, "192.0.2.1", (), bytes(32), "192.0.2.1", "/", ""), "only this key"),
    ("set_tun", link.SetTun(True), "with a descriptor"),
    ("set_port", link.SetPort(1), "with a descriptor"),
    ("start_esp", link.StartEsp(1, True), "a gateway of our own"),
]

FROM_EDGE: list[tuple[str, FromEdge, str]] = [
    ("hello/none", link.EdgeHello(link.VERSION, U64, ()), "a fresh edge"),
    ("hello", link.EdgeHello(link.VERSION, 1, (QUIET, BUSY)), "two live sessions"),
    (
        "conn_opened/full",
        link.ConnOpened(
            7,
            "[2001:db8::2]:50000",
            "[2001:db8::1]:443",
            "TLSv1.3",
            "TLS13_AES_256_GCM_SHA384",
            "X25519MLKEM768",
            "gw.test",
            (bytes(40), bytes(300)),
            "gw.test",
            "/users",
            "Open AnyConnect VPN Agent v9.01-3",
            Secret.of_text("DSID=a1b2c3d4e5f60718293a4b5c6d7e8f90"),
            Secret(bytes(range(32))),
        ),
        "two certificates and a cookie",
    ),
    (
        "conn_opened/least",
        link.ConnOpened(
            1, "10.99.0.2:50000", "10.99.0.1:443", "", "", "", "", (), "", "", "", Secret(b""), Secret(b"")
        ),
        "everything a client may leave out",
    ),
    (
        "conn_opened/ncp",
        link.ConnOpened(
            7,
            "10.99.0.2:50000",
            "10.99.0.1:443",
            "TLSv1.3",
            "TLS13_AES_256_GCM_SHA384",
            "X25519",
            "gw.test",
            (),
            "gw.test",
            "/dana/js?prot=1&svc=4",
            "Open AnyConnect VPN Agent v9.01-3",
            Secret.of_text("DSID=a1b2c3d4e5f60718293a4b5c6d7e8f90"),
            Secret(bytes(32)),
            link.Framing.NCP,
        ),
        "asks for Network Connect",
    ),
    ("frame", link.LinkFrame(7, 0x5597, 1, bytes.fromhex("00010202")), "version request of a client"),
    ("conn_closed", link.ConnClosed(7, 0, "peer closed"), "had no session"),
    ("conn_closed/session", link.ConnClosed(7, 1, "timed out"), "its session stays"),
    (
        "transport_changed/none",
        link.TransportChanged(1, Transport.NONE, ""),
        "the client is away",
    ),
    ("transport_changed/tls", link.TransportChanged(1, Transport.TLS, "10.99.0.2:50000"), "over TLS"),
    ("transport_changed/esp", link.TransportChanged(1, Transport.ESP, "10.99.0.2:4501"), "over ESP"),
    ("rekey_wanted", link.RekeyWanted(1), "a key nears its end"),
    (
        "dialed",
        link.Dialed(
            9,
            "TLSv1.3",
            "TLS13_AES_256_GCM_SHA384",
            "X25519MLKEM768",
            (bytes(300),),
            bytes(range(32)),
            Secret(bytes(32)),
        ),
        "ready for IF-T",
    ),
    ("barrier_passed", link.BarrierPassed(U64), "and is"),
    ("flows/none", link.Flows(0, 0, ()), "no record"),
    ("flows", link.Flows(U64, 1500, (PASSED, REFUSED, OTHERS)), "one of each kind"),
    ("path_mtu", link.PathMtu(1, 1280), "a narrow path"),
    ("stats/none", link.Stats((), ()), "nothing happened"),
    ("stats", link.Stats((BUSY,), (("denied", 3), ("replayed", U64))), "one session, two counters"),
]
FROM_EDGE += [
    (f"session_ended/{cause}", link.SessionEnded(1, 2, cause, MUCH_TRAFFIC), f"cause {cause}")
    for cause in link.EndCause
]
FROM_EDGE += [
    (
        f"dial_failed/{cause}",
        link.DialFailed(9, cause, "what the server did", (bytes(40),), bytes(32)),
        f"cause {cause}",
    )
    for cause in link.DialFailure
]
FROM_EDGE += [
    (f"flows/{cause}", link.Flows(1, 0, (replace(REFUSED, cause=cause),)), f"cause {cause}")
    for cause in link.FlowCause
]
FROM_EDGE.append(
    ("dial_failed/least", link.DialFailed(9, link.DialFailure.CLOSED, "", (), b""), "no certificate came")
)


def vectors() -> list[dict[str, str]]:
    """The content of the file."""
    cases: list[tuple[str, ToEdge | FromEdge, str]] = []
    cases += [(f"to_edge/{name}", message, meaning) for name, message, meaning in TO_EDGE]
    cases += [(f"from_edge/{name}", message, meaning) for name, message, meaning in FROM_EDGE]
    return [
        {"name": name, "hex": edge_link_codec.encode(message).hex(), "meaning": meaning}
        for name, message, meaning in cases
    ]


if __name__ == "__main__":
    FILE.write_text(json.dumps(vectors(), indent=1) + "\n")
