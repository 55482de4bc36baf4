"""What a user asks for when connecting."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from lockgate.model.problem import Problem, ProblemError
from lockgate.protocol.gateway_url import GatewayUrl, parse_gateway_url
from lockgate.protocol.launch_url import parse_handle
from lockgate.protocol.secret import Secret

MAX_NAME = 80  # characters of a connection's name, "(Auto Launch)" behind one of a link included
MAX_REALM = 64  # characters
MAX_USER = 256  # characters of a user name
_SEQUENCE = b"\x30"  # what every certificate begins with (RFC 5280, section 4.1; X.690)
MAX_PEM = 128 << 10  # bytes of trust anchors given with one connection


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """One connection. `roots` are DER trust anchors that replace the system's; `pin` is the SHA-256 of the
    server's public key or empty; `proxy` is "host:port", or empty for a direct connection."""

    server: GatewayUrl
    name: str
    user: str = ""
    realm: str = ""
    roots: tuple[bytes, ...] = ()
    pin: bytes = b""
    esp: bool = True
    proxy: str = ""
    background: bool = False
    trust_prompt: bool = False


def _bad(field: str, reason: str) -> ProblemError:
    return ProblemError(
        Problem("bad-request", f"{field}: {reason}.", "Correct it and connect again; nothing was changed.")
    )


def _text(request: dict[str, object], key: str, most: int) -> str:
    value = request.get(key, "")
    if not isinstance(value, str) or len(value) > most or not (value.isprintable() or value == ""):
        raise _bad(key, f"a printable text of at most {most} characters is needed")
    return value


def _flag(request: dict[str, object], key: str, default: bool) -> bool:
    value = request.get(key, default)
    if not isinstance(value, bool):
        raise _bad(key, "true or false is needed")
    return value


def _roots(request: dict[str, object]) -> tuple[bytes, ...]:
    pem = request.get("ca", "")
    if not isinstance(pem, str) or len(pem) > MAX_PEM:
        raise _bad("ca", f"PEM text of at most {MAX_PEM} bytes is needed")
    return pem_certificates(pem) if pem else ()


def pem_certificates(text: str) -> tuple[bytes, ...]:
    """The certificates in PEM text, as DER. ProblemError when there is none, or one is damaged."""
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    found = []
    for piece in text.split(begin)[1:]:
        body, closed, _ = piece.partition(end)
        try:
            der = base64.b64decode("".join(body.split()), validate=True)
            if not closed or not der.startswith(_SEQUENCE):
                raise ValueError
            found.append(der)
        except ValueError:
            raise _bad("ca", "a certificate in it is damaged") from None
    if not found:
        raise _bad("ca", "there is no PEM certificate in it")
    return tuple(found)


def _pin(request: dict[str, object]) -> bytes:
    text = _text(request, "pin", 128)
    if not text:
        return b""
    kind, _, value = text.partition(":")
    try:
        pin = bytes.fromhex(value)
    except ValueError:
        pin = b""
    if kind != "sha256" or len(pin) != 32:
        raise _bad("pin", 'it looks like "sha256:" and 64 hexadecimal digits')
    return pin


def _proxy(request: dict[str, object]) -> str:
    """ "host:port" of `http://host:port/`, `host:port` or `host`; empty for none."""
    text = _text(request, "proxy", 512)
    if text in ("", "none"):
        return ""
    scheme, found, rest = text.partition("://")
    if found and scheme.lower() != "http":
        raise _bad("proxy", "only http:// proxies are supported")
    rest = (rest if found else text).rstrip("/")
    try:
        url = parse_gateway_url("https://" + (rest if _has_port(rest) else f"{rest}:3128"))
    except ValueError as error:
        raise _bad("proxy", str(error)) from None
    if url.path not in ("", "/"):
        raise _bad("proxy", "a proxy has no path")
    return f"[{url.host}]:{url.port}" if ":" in url.host else f"{url.host}:{url.port}"


def _has_port(text: str) -> bool:
    return text.rpartition("]")[2].count(":") == 1 if text.startswith("[") else ":" in text


def parse_launch_handle(request: dict[str, object]) -> Secret | None:
    """The handle of a portal's Start in a `connect` request. It is no setting: it is never written down."""
    text = _text(request, "handle", 64)
    try:
        return parse_handle(text) if text else None
    except ValueError:
        raise _bad("handle", "43 characters as in the link are needed") from None


def parse_settings(request: dict[str, object]) -> ConnectionSettings:
    """The settings in a `connect` request of the local API. ProblemError names what is wrong."""
    try:
        server = parse_gateway_url(_text(request, "server", 2048))
    except ValueError as error:
        raise _bad("server", str(error)) from None
    return ConnectionSettings(
        server=server,
        name=_text(request, "name", MAX_NAME) or server.host,
        user=_text(request, "user", MAX_USER),
        realm=_text(request, "realm", MAX_REALM),
        roots=_roots(request),
        pin=_pin(request),
        esp=_flag(request, "esp", True),
        proxy=_proxy(request),
        background=_flag(request, "background", False),
        trust_prompt=_flag(request, "trust_prompt", False),
    )
