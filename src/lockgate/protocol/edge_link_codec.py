"""The edge link's messages as bytes.

A Unix stream socket carries records: a big-endian 32-bit length, then one MessagePack value, a map
of the message's name to the map of its fields. Both ends come from one release: an unknown
message, field or value is a PeerError and ends the link, which only lets rights run out.
"""

import struct
from dataclasses import replace

from lockgate.protocol import edge_link as link
from lockgate.protocol import strict_msgpack
from lockgate.protocol.edge_link import MAX_RECORD, FromEdge, OpenSession, Rule, SetRules, ToEdge
from lockgate.protocol.errors import PeerError, UsageError

MAX_KEPT_RULES = 64
"""Sets of rules whose translation is kept; one of 1,000 rules is half a megabyte."""

_LENGTH = struct.Struct("!I")

_TO_EDGE: dict[str, type[ToEdge]] = {
    "hello": link.ControlHello,
    "keepalive": link.Keepalive,
    "report_stats": link.ReportStats,
    "open_session": link.OpenSession,
    "attach": link.Attach,
    "frame": link.LinkFrame,
    "close_conn": link.CloseConn,
    "install_esp_in": link.InstallEspIn,
    "install_esp_out": link.InstallEspOut,
    "set_rules": link.SetRules,
    "set_deadline": link.SetDeadline,
    "set_limits": link.SetLimits,
    "close_session": link.CloseSession,
    "barrier": link.Barrier,
    "dial": link.Dial,
    "set_tun": link.SetTun,
    "set_port": link.SetPort,
    "start_esp": link.StartEsp,
}
_FROM_EDGE: dict[str, type[FromEdge]] = {
    "hello": link.EdgeHello,
    "conn_opened": link.ConnOpened,
    "frame": link.LinkFrame,
    "conn_closed": link.ConnClosed,
    "session_ended": link.SessionEnded,
    "transport_changed": link.TransportChanged,
    "rekey_wanted": link.RekeyWanted,
    "barrier_passed": link.BarrierPassed,
    "flows": link.Flows,
    "dialed": link.Dialed,
    "dial_failed": link.DialFailed,
    "path_mtu": link.PathMtu,
    "stats": link.Stats,
}
_RULES: dict[int, tuple[tuple[Rule, ...], object]] = {}
_NAMES: dict[type, str] = {cls: name for table in (_TO_EDGE, _FROM_EDGE) for name, cls in table.items()}


def encode(message: ToEdge | FromEdge) -> bytes:
    """The MessagePack value of one message; UsageError if a field does not fit its type or limit."""
    data = strict_msgpack.dumps({_NAMES[type(message)]: _packed(message)})
    if len(data) > MAX_RECORD:
        raise UsageError(f"{type(message).__name__} takes {len(data)} bytes, more than one record")
    return data


def _packed(message: ToEdge | FromEdge) -> dict[str, object]:
    """The fields of a message. Rules go to thousands of sessions as one and the same tuple; to check and
    translate a hundred of them takes a millisecond, so that is done once."""
    if not isinstance(message, SetRules | OpenSession) or len(message.rules) < 2:
        return strict_msgpack.pack(message)
    known = _RULES.get(id(message.rules))
    if known is None or known[0] is not message.rules:
        fields = strict_msgpack.pack(message)
        while len(_RULES) >= MAX_KEPT_RULES:
            del _RULES[next(iter(_RULES))]
        # The tuple is kept with its translation: while it is there nothing else has its identity.
        _RULES[id(message.rules)] = message.rules, fields["rules"]
        return fields
    return strict_msgpack.pack(replace(message, rules=())) | {"rules": known[1]}


def encode_record(message: ToEdge | FromEdge) -> bytes:
    """The message as it goes on the stream: length, then value."""
    data = encode(message)
    return _LENGTH.pack(len(data)) + data


def decode_to_edge(data: bytes) -> ToEdge:
    """A message of the control plane from its MessagePack value; PeerError unless exact."""
    name, fields = _named(data)
    if (cls := _TO_EDGE.get(name)) is None:
        raise PeerError("unknown message to the edge")
    return strict_msgpack.unpack(cls, fields)


def decode_from_edge(data: bytes) -> FromEdge:
    """A message of the edge from its MessagePack value; PeerError unless exact."""
    name, fields = _named(data)
    if (cls := _FROM_EDGE.get(name)) is None:
        raise PeerError("unknown message from the edge")
    return strict_msgpack.unpack(cls, fields)


def _named(data: bytes) -> tuple[str, object]:
    if len(data) > MAX_RECORD:
        raise PeerError(f"a record of {len(data)} bytes")
    value = strict_msgpack.loads(data)
    if not isinstance(value, dict) or len(value) != 1:
        raise PeerError("a message is not a map with one entry")
    [(name, fields)] = value.items()
    if not isinstance(name, str):
        raise PeerError("the name of a message is not text")
    return name, fields


class RecordReader:
    """Cuts the stream of the link into MessagePack values, one per message."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Append bytes as they came from the socket."""
        self._buffer += data

    def next_record(self) -> bytes | None:
        """The next whole value, or None: feed more bytes. PeerError on a declared length of 0 or
        above MAX_RECORD."""
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        # Judged before it is waited for, or the peer chooses how much we hold.
        if not 1 <= length <= MAX_RECORD:
            raise PeerError(f"a record declares {length} bytes")
        end = _LENGTH.size + int(length)
        if len(self._buffer) < end:
            return None
        record = bytes(self._buffer[_LENGTH.size : end])
        del self._buffer[:end]
        return record
