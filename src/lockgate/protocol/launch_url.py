"""Links that start a connection: `pulsesecureclient://connect?name=…&server=…`.

    name       what the connection is called
    server     host, address or sign-in URL, as `gateway_url` reads it
    userrealm, username, store      what an administrator's link fills in
    handle     from the portal's Start: stands for a sign-in that was made there, once and for 60 seconds

Any web page can make such a link, so there is one meaning or none: a parameter that is unknown, repeated,
empty, too long or holds characters that cannot be seen refuses the whole. A link asks; nothing starts before
somebody has agreed.
"""

import base64
import binascii
import unicodedata
from dataclasses import dataclass
from urllib.parse import quote

from lockgate.protocol.errors import UsageError
from lockgate.protocol.gateway_url import GatewayUrl, parse_gateway_url
from lockgate.protocol.secret import Secret

SCHEME = "pulsesecureclient"
ACTION = "connect"

MAX_LINK = 4096
"""Characters of the whole: room for every value at its longest, coded, is not needed by any real link."""

MAX_NAME = 64
MAX_REALM = 64
MAX_USER = 256

HANDLE = 32
"""Bytes of a handle."""

_HANDLE_TEXT = 43  # characters of base64url without padding (RFC 4648, section 5)
_PARAMETERS = ("name", "server", "userrealm", "username", "store", "handle")
_HEX = frozenset("0123456789abcdefABCDEF")
# What a query may hold besides letters and digits (RFC 3986, section 3.4), `&`, `=`, `#` and `%` apart; blanks
# and more are in links that the guides show and browsers pass on as they were typed.
_PLAIN = frozenset("-._~!$'()*+,;:@/?[] =")


@dataclass(frozen=True, slots=True)
class LaunchUrl:
    """What a link asks for. `store` is None where it says nothing about it."""

    name: str
    server: GatewayUrl
    realm: str = ""
    user: str = ""
    store: bool | None = None
    handle: Secret | None = None


def parse_launch_url(text: str) -> LaunchUrl:
    """The link; ValueError, for a person to read and without values of the link, if it is none."""
    if len(text) > MAX_LINK:
        raise ValueError(f"The link is longer than {MAX_LINK} characters.")
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() != SCHEME:
        raise ValueError(f"The link does not begin with {SCHEME}://.")
    action, separator, query = rest.partition("?")
    if action.removesuffix("/") != ACTION:
        raise ValueError(f"A link can do nothing but {ACTION}.")
    if not separator or not query:
        raise ValueError("The link says neither a name nor a server.")
    return _of_values(_values(query))


def _values(query: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for pair in query.split("&"):
        key, equals, coded = pair.partition("=")
        if key not in _PARAMETERS:
            raise ValueError("The link holds something that is not known here.")
        if not equals or not coded:
            raise ValueError(f"The link leaves {key} empty.")
        if key in values:
            raise ValueError(f"The link says {key} twice.")
        values[key] = _decoded(key, coded)
    return values


def _of_values(values: dict[str, str]) -> LaunchUrl:
    for key in ("name", "server"):
        if key not in values:
            raise ValueError(f"The link says no {key}.")
    store = values.get("store")
    if store is not None and store.lower() not in ("true", "false"):
        raise ValueError("In a link, store is true or false.")
    handle = None
    if "handle" in values:
        if values.keys() & {"userrealm", "username", "store"}:
            raise ValueError("A link with a handle says nothing about the user: the handle does.")
        handle = parse_handle(values["handle"])
    try:
        server = parse_gateway_url(values["server"])
    except ValueError as error:
        raise ValueError(f"The server in the link is none. {error}") from None
    return LaunchUrl(
        name=_bounded(values["name"], "name", MAX_NAME),
        server=server,
        realm=_bounded(values.get("userrealm", ""), "userrealm", MAX_REALM),
        user=_bounded(values.get("username", ""), "username", MAX_USER),
        store=None if store is None else store.lower() == "true",
        handle=handle,
    )


def parse_handle(text: str) -> Secret:
    """The handle in its one spelling; ValueError if it is none."""
    try:
        if len(text) != _HANDLE_TEXT or not text.isascii():
            raise ValueError
        value = base64.b64decode(text + "=", altchars=b"-_", validate=True)
        if handle_text(Secret(value)) != text:
            raise ValueError
    except (ValueError, binascii.Error):
        raise ValueError("The link's handle is damaged.") from None
    return Secret(value)


def handle_text(handle: Secret) -> str:
    """A handle as it stands in a link: base64url without padding."""
    if len(handle.reveal()) != HANDLE:
        raise UsageError(f"a handle has {HANDLE} bytes")
    return base64.urlsafe_b64encode(handle.reveal()).rstrip(b"=").decode()


def format_launch_url(link: LaunchUrl) -> str:
    """The link as text. UsageError if it could not be read again."""
    pairs = [("name", link.name), ("server", str(link.server))]
    if link.realm:
        pairs.append(("userrealm", link.realm))
    if link.user:
        pairs.append(("username", link.user))
    if link.store is not None:
        pairs.append(("store", "true" if link.store else "false"))
    if link.handle is not None:
        pairs.append(("handle", handle_text(link.handle)))
    text = f"{SCHEME}://{ACTION}?" + "&".join(f"{key}={quote(value, safe=':/')}" for key, value in pairs)
    try:
        if parse_launch_url(text) == link:
            return text
        reason = "the link does not say what it should"
    except ValueError as error:
        reason = str(error)
    raise UsageError(reason)


def _decoded(key: str, coded: str) -> str:
    """A value without its percent codes: UTF-8, no character that hides."""
    out = bytearray()
    at = 0
    while at < len(coded):
        character = coded[at]
        if character == "%":
            digits = coded[at + 1 : at + 3]
            if len(digits) != 2 or not _HEX.issuperset(digits):
                raise ValueError(f"The link's {key} has a percent sign without a code.")
            out.append(int(digits, 16))
            at += 3
            continue
        if not (character.isalnum() or character in _PLAIN):
            raise ValueError(f"The link's {key} has a character that must be coded.")
        out += character.encode()
        at += 1
    try:
        text = out.decode()
    except UnicodeDecodeError:
        text = ""
    hidden = any(unicodedata.category(c)[0] == "C" or unicodedata.category(c) in ("Zl", "Zp") for c in text)
    if not text or hidden or text != text.strip():
        raise ValueError(f"The link's {key} holds what cannot be seen.")
    return text


def _bounded(text: str, key: str, most: int) -> str:
    if len(text) > most:
        raise ValueError(f"The link's {key} is longer than {most} characters.")
    return text
