"""Files that an answer hands out."""

from __future__ import annotations

from urllib.parse import quote


def attachment(name: str) -> str:
    """Content-Disposition of a download (RFC 6266); the plain name is for old browsers."""
    plain = "".join(each if (each.isascii() and each.isalnum()) or each in "._-" else "_" for each in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
