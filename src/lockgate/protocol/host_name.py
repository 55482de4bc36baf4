"""Names and addresses of hosts in the one form that everything after may rely on."""

import ipaddress
import re
from dataclasses import dataclass

MAX_NAME = 253
"""Characters of a name (RFC 1035, section 2.3.4, as text without the root)."""

# With the underscore, which is in use, and without a hyphen at the ends: nothing begins like an option.
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")


@dataclass(frozen=True, slots=True)
class Host:
    """`text` is a lower-case ASCII name without a dot at its end, or an IP address as `ipaddress`
    writes it; IPv6 has no brackets and no zone here."""

    text: str
    is_address: bool

    def with_port(self, port: int) -> str:
        """`host:port`, IPv6 in brackets."""
        return f"{self.in_url}:{port}"

    @property
    def in_url(self) -> str:
        """The host as it stands in a URL."""
        return f"[{self.text}]" if ":" in self.text else self.text


def canonical_host(text: str) -> Host:
    """The host that ASCII `text` names; ValueError, for a person to read, if it names none.

    A name that ends like a number is an address or nothing: resolvers of C libraries take `127.1` and
    `0x7f000001` for addresses, and nobody who checked the name would have seen that.
    """
    if ":" in text:
        try:
            if "%" in text:
                raise ValueError("an address with a zone")
            return Host(str(ipaddress.IPv6Address(text)), True)
        except ValueError:
            raise ValueError("This is not an IPv6 address.") from None
    name = text.removesuffix(".").lower()
    labels = name.split(".")
    if not name or len(name) > MAX_NAME or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError("This is not the name of a host.")
    if _NUMBER.fullmatch(labels[-1]):
        try:
            return Host(str(ipaddress.IPv4Address(name)), True)
        except ValueError:
            raise ValueError("This is not an IPv4 address: it needs four numbers from 0 to 255.") from None
    return Host(name, False)
