"""The Cookie header of an HTTP request."""


def cookies_named(header: str, name: str) -> list[str]:
    """Every value that a header has for a cookie, in order; more than one is an attack or an accident."""
    found = []
    for part in header.split(";"):
        key, separator, value = part.strip().partition("=")
        if separator and key == name:
            found.append(value)
    return found
