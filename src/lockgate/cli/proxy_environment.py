"""The web proxy that the environment names, as other programs read it: https_proxy, and no_proxy for exceptions.

Both are also taken in capital letters; small ones count first, an empty one means none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

HTTPS = "443"

Warn = Callable[[str], None]


def proxy_for(url: str, environment: Mapping[str, str], warn: Warn) -> str:
    """The proxy for an https URL, "http://host:port" or "host:port" as it was written; empty for none.

    One that we cannot use is none, and `warn` gets a sentence why: it was meant for another program.
    """
    name, value = _variable("https_proxy", environment)
    if not value:
        return ""
    host, port = _split(url.partition("://")[2].partition("/")[0].lower())
    if _is_excepted(host, port or HTTPS, _variable("no_proxy", environment)[1]):
        return ""
    scheme, found, rest = value.partition("://")
    if "@" in (rest if found else value):
        warn(f"the proxy in {name} is not used: user names and passwords for proxies are not supported")
        return ""
    if found and scheme.lower() != "http":
        warn(f"the proxy in {name} is not used: only http:// proxies are supported")
        return ""
    return value


def _variable(name: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """Name and value of the one that is set."""
    used = name if name in environment else name.upper()
    return used, environment.get(used, "").strip()


def _split(authority: str) -> tuple[str, str]:
    """Host, IPv6 without brackets, and port or nothing."""
    if authority.startswith("["):
        host, _, port = authority[1:].partition("]")
        return host, port.removeprefix(":")
    if authority.count(":") > 1:  # an IPv6 address without brackets: no port
        return authority, ""
    host, _, port = authority.partition(":")
    return host.rstrip("."), port


def _is_excepted(host: str, port: str, exceptions: str) -> bool:
    """no_proxy: names with all that is under them, addresses, networks, each perhaps with a port; or *."""
    for entry in exceptions.replace(",", " ").lower().split():
        if entry == "*":
            return True
        if "/" in entry:
            if _in_network(host, entry):
                return True
            continue
        wanted, wanted_port = _split(entry.removeprefix("*").lstrip("."))
        if wanted_port in ("", port) and (host == wanted or (wanted and host.endswith(f".{wanted}"))):
            return True
    return False


def _in_network(host: str, network: str) -> bool:
    from ipaddress import ip_address, ip_network  # only for who has networks there: it takes a while

    try:
        return ip_address(host) in ip_network(network, strict=False)
    except ValueError:
        return False
