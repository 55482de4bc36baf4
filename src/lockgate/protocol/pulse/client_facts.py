"""What a client tells about itself before the first question."""

import ipaddress
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from lockgate.protocol.avp import Avp
from lockgate.protocol.errors import PeerError
from lockgate.protocol.launch_url import HANDLE
from lockgate.protocol.pulse.codes import Code
from lockgate.protocol.pulse.events import ClientReady
from lockgate.protocol.pulse.extensions import PROOF, PUBLIC_KEY, TEXT_KEY, known_capabilities
from lockgate.protocol.pulse.questions import data_of
from lockgate.protocol.pulse.text import shown_text
from lockgate.protocol.secret import Secret

MAX_CLIENT_INFO = 4096
"""Bytes of the client information text; openconnect sends fewer than 400, vendors add keys."""

MAX_HOST_NAME = 255
"""Bytes kept of the client's host name: the longest name of RFC 1035."""

MAX_USER_AGENT = 512
"""Bytes kept of the user agent; the longest in the field has about 100."""

MAX_SHORT_TEXT = 64
"""Bytes kept of the names of system and locale."""

MAX_COOKIE = 4096
"""Bytes of a cookie as given, with what a browser flow put around it; ours has 32."""

_VERSION_REQUEST = struct.Struct("!BBBB")  # reserved, lowest, highest, preferred version


def choose_version(body: bytes) -> int:
    """The version to answer a version request with: 2 where the client has it, else 1."""
    if len(body) != _VERSION_REQUEST.size:
        raise PeerError(f"a version request of {len(body)} bytes")
    _, low, high, _ = _VERSION_REQUEST.unpack(body)
    for version in (2, 1):
        if low <= version <= high:
            return version
    raise PeerError(f"the client speaks versions {low} to {high} only")


@dataclass(frozen=True, slots=True)
class HostInfo:
    """From the client information text; empty where it says nothing usable."""

    name: str
    address: str
    capabilities: frozenset[str] = frozenset()


def read_host_info(body: bytes) -> HostInfo:
    """`key=value` pairs between blanks, unknown keys ignored, the first of a key counts."""
    if len(body) > MAX_CLIENT_INFO:
        raise PeerError(f"client information of {len(body)} bytes")
    facts: dict[bytes, bytes] = {}
    for word in body.split(b"\0")[0].split():
        key, _, value = word.partition(b"=")
        facts.setdefault(key, value)
    address = shown_text(facts.get(b"clientIp", b""), MAX_SHORT_TEXT)
    try:
        address = str(ipaddress.ip_address(address))
    except ValueError:
        address = ""  # a claim without weight: not worth losing the client
    return HostInfo(
        shown_text(facts.get(b"clientHostName", b""), MAX_HOST_NAME),
        address,
        known_capabilities(facts.get(TEXT_KEY.encode(), b"")),
    )


def read_client(avps: Sequence[Avp], host: HostInfo) -> ClientReady:
    """The event for the first packet of AVPs."""
    cookie = data_of(avps, Code.COOKIE)
    mac_address = data_of(avps, Code.MAC_ADDRESS) or b""
    handle = _sized(avps, Code.LAUNCH_HANDLE, HANDLE)
    if handle and cookie is not None:
        raise PeerError("a cookie and a launch handle: two answers to who the client is")
    return ClientReady(
        user_agent=shown_text(data_of(avps, Code.USER_AGENT) or b"", MAX_USER_AGENT),
        cookie=None if cookie is None else read_cookie(cookie),
        host_name=host.name,
        client_address=host.address,
        system=shown_text(data_of(avps, Code.SYSTEM) or b"", MAX_SHORT_TEXT),
        locale=shown_text(data_of(avps, Code.LOCALE) or b"", MAX_SHORT_TEXT),
        mac_address=mac_address if len(mac_address) == 6 else b"",
        capabilities=host.capabilities,
        public_key=_sized(avps, Code.SESSION_KEY, PUBLIC_KEY),
        proof=_sized(avps, Code.RESUME_PROOF, PROOF),
        handle=Secret(handle) if handle else None,
    )


def _sized(avps: Sequence[Avp], code: Code, length: int) -> bytes:
    """Data of exactly that length, or empty where the client sent none.

    Another length is no claim to pass over: a key that is not understood would leave a session unbound.
    """
    data = data_of(avps, code)
    if data is None:
        return b""
    if len(data) != length:
        raise PeerError(f"AVP {code:#x} has {len(data)} bytes instead of {length}")
    return data


def read_cookie(data: bytes) -> Secret:
    """The cookie in any of the forms in use: bare, `DSID=…`, or among other `name=value` items.

    Empty if there is none, which no session has: a bad cookie, not a client that sent none.
    """
    if len(data) > MAX_COOKIE:
        raise PeerError(f"a cookie of {len(data)} bytes")
    items = [item.strip() for item in data.rstrip(b"\0").split(b";")]
    for item in items:
        name, equals, value = item.partition(b"=")
        if equals and name.strip() == b"DSID":
            return Secret(value.strip())
    return Secret(items[0] if b"=" not in items[0] else b"")
