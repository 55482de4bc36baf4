"""What a person types to say where a gateway is.

    gw    gw:8443    https://gw.example.org/users/    192.0.2.1    [2001:db8::1]:8443

There is one meaning or none: whatever two programs could read differently is refused, with a sentence that
says what to type instead.
"""

import re
import unicodedata
from dataclasses import dataclass
from urllib.parse import quote

from lockgate.protocol.host_name import MAX_NAME, Host, canonical_host

HTTPS = 443

MAX_URL = 2048
"""Characters of the whole; more is nothing that anybody typed."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_PORT = re.compile(r"[0-9]{1,5}")
_PATH = re.compile(r"(/([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-F]{2})*)+")
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CODED = re.compile(r"%([0-9A-Fa-f]{2})")
# IDNA 2003, which is what Python has, and IDNA 2008, which is what registries use, make different names of
# these two; the joiners, which are the other two such characters, are refused as invisible.
_DISPUTED = frozenset("ßẞς")


@dataclass(frozen=True, slots=True)
class GatewayUrl:
    """An https URL in canonical form; make it with `parse_gateway_url`.

    host: ASCII name in lower case, or an IP address, IPv6 without brackets.
    path: begins with a slash; percent-encoded where needed.
    """

    host: str
    port: int = HTTPS
    path: str = "/"
    is_address: bool = False

    @property
    def authority(self) -> str:
        """Value of the HTTP header Host: no port where it is the usual one."""
        host = Host(self.host, self.is_address)
        return host.in_url if self.port == HTTPS else host.with_port(self.port)

    def __str__(self) -> str:
        return f"https://{self.authority}{self.path}"


def parse_gateway_url(text: str) -> GatewayUrl:
    """The URL; ValueError, for a person to read, if there is none in it."""
    text = text.strip(" \t\r\n")
    if not text:
        raise ValueError("The address of the gateway is missing.")
    if len(text) > MAX_URL:
        raise ValueError(f"The address of a gateway has at most {MAX_URL} characters.")
    if any(unicodedata.category(character)[0] in "CZ" for character in text):
        raise ValueError("The address of a gateway has no blanks and no invisible characters.")
    scheme = _SCHEME.match(text)
    if scheme is not None:
        if scheme[1].lower() != "https":
            raise ValueError(f"A gateway is reached by https, not by {scheme[1]}.")
        text = text[scheme.end() :]
    if "\\" in text:
        raise ValueError("The address of a gateway has no backslashes.")
    if "#" in text or "?" in text:
        raise ValueError("The address of a gateway ends before a '?' or '#'.")
    authority, slash, path = text.partition("/")
    if "@" in authority:
        raise ValueError("No user name stands before the name of a gateway; it is asked for later.")
    host, port = _host_and_port(authority)
    return GatewayUrl(host.text, port, _path(slash + path), host.is_address)


def _host_and_port(authority: str) -> tuple[Host, int]:
    if authority.startswith("["):
        name, bracket, rest = authority[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or ":" not in name:
            raise ValueError("An IPv6 address stands in brackets, like [2001:db8::1]:443.")
        colon, port = rest[:1], rest[1:]
        host = canonical_host(name)
    else:
        name, colon, port = authority.partition(":")
        if ":" in port:
            raise ValueError("An IPv6 address stands in brackets, like [2001:db8::1].")
        if not name:
            raise ValueError("The name of the gateway is missing.")
        host = canonical_host(_to_ascii(name))
    if not colon:
        return host, HTTPS
    if not _PORT.fullmatch(port) or not 0 < int(port) <= 0xFFFF:
        raise ValueError("A port is a number from 1 to 65535.")
    return host, int(port)


def _to_ascii(name: str) -> str:
    if name.isascii():
        return name
    if _DISPUTED & set(name):
        raise ValueError("This name is spelled in more than one way; type the form that begins with xn--.")
    try:
        if len(name) > MAX_NAME:  # the codec is slow on long names
            raise UnicodeError
        return name.encode("idna").decode("ascii")
    except UnicodeError:
        raise ValueError("This is not the name of a host.") from None


def _path(path: str) -> str:
    # The percent sign is kept: what follows it is judged below.
    path = quote(path or "/", safe="/%!$&'()*+,;=:@~")
    # Before decoding, or `%%34B` would become `%4B`, a code that nobody typed.
    stray = _STRAY_PERCENT.search(path)
    path = _CODED.sub(lambda code: _canonical_code(int(code[1], 16)), path)
    if stray or not _PATH.fullmatch(path) or "//" in path or {".", ".."} & set(path.split("/")):
        raise ValueError("The path after the name of the gateway is not one that a URL can have.")
    return path


def _canonical_code(value: int) -> str:
    """One spelling for each byte: as itself where it may stand so, else in capitals; RFC 3986, section 6.2.2."""
    if value < 0x20 or value == 0x7F or value in b"/\\%":
        raise ValueError("The path after the name of the gateway hides characters behind percent signs.")
    character = chr(value)
    plain = value < 0x80 and (character.isalnum() or character in "-._~")
    return character if plain else f"%{value:02X}"
