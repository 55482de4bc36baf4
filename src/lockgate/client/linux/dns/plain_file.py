"""The driver for machines where /etc/resolv.conf is a plain file that somebody, or nobody, writes.

A file is written in place: under `ip netns exec` and in containers it is a mount, which cannot be renamed over.
A link is followed only to a file that root alone governs; any other link is put aside and laid back later.
"""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path
from typing import Any

from lockgate.client.linux.dns import forwarding, resolv_conf, trusted_file
from lockgate.client.linux.dns.driver import Driver, Saved, not_writable
from lockgate.client.linux.dns.forwarding import Routes
from lockgate.client.linux.dns.trusted_file import UntrustedPathError
from lockgate.client.linux.dns.wish import DnsWish, usable_domains

RESOLV_CONF = Path("/etc/resolv.conf")


class PlainFile(Driver):
    """saved: `was` is "file" with `content` (base64), "link" with `target`, or "absent"."""

    name = "file"

    def __init__(self, path: Path = RESOLV_CONF, previous: Saved | None = None) -> None:
        super().__init__()
        self._path = path
        self._previous = previous if previous is not None and previous.get("driver") == self.name else None
        self._saved: dict[str, Any] | None = None
        self._written: bytes | None = None

    async def saved(self, wish: DnsWish) -> dict[str, Any]:
        try:
            self._saved = self._former()
        except OSError as error:
            raise not_writable(self._path, error) from error
        return self._saved

    async def apply(self, wish: DnsWish) -> None:
        saved = self._saved if self._saved is not None else await self.saved(wish)
        content, routes = _ours(wish, saved, _content_before(self._path, saved))
        await self._forward(routes)
        try:
            if saved["was"] == "file":
                trusted_file.overwrite(self._path, content)
            else:
                trusted_file.replace(self._path, content)
        except OSError as error:
            raise not_writable(self._path, error) from error
        self._written = content

    async def verify(self, wish: DnsWish) -> bool:
        try:
            same = trusted_file.read(self._path) == self._written
        except OSError:
            same = False
        return same and self._forwarding == wish.divided

    async def revert(self, saved: Saved) -> None:
        await self._forward(None)
        restore(saved, self._path)
        self._saved = self._written = None

    def _former(self) -> dict[str, Any]:
        """What was there before us. raises: OSError when it can be neither read nor put aside."""
        try:
            content = trusted_file.read(self._path)
        except (FileNotFoundError, UntrustedPathError):
            # No such file, or a link to where a weaker user may write: aside with the link.
            if self._path.is_symlink():
                return {"driver": self.name, "was": "link", "target": os.readlink(self._path)}
            if self._path.exists():
                raise
            return {"driver": self.name, "was": "absent"}
        if not resolv_conf.is_ours(content):
            return {"driver": self.name, "was": "file", "content": base64.b64encode(content).decode()}
        known = self._saved or resolv_conf.embedded(content) or self._previous
        return dict(known) if known is not None else {"driver": self.name, "was": "file", "content": ""}


def restore(saved: Saved, path: Path = RESOLV_CONF) -> list[str]:
    """Put the former state back, byte for byte, if what is there is still ours. Says what was done.

    raises: ProblemError dns-not-writable.
    """
    try:
        if not resolv_conf.is_ours(trusted_file.read(path)):
            return [f"{path}: written by somebody else since, left as it is"]
        match saved.get("was"):
            case "file":
                trusted_file.overwrite(path, _decoded(saved))
            case "link":
                trusted_file.replace_by_link(path, str(saved["target"]))
            case "absent":
                trusted_file.remove(path)
            case _:
                return [f"{path}: nothing known about its former content, left as it is"]
    except FileNotFoundError:
        return [f"{path}: removed by somebody else since, left as it is"]
    except UntrustedPathError:
        return [f"{path}: replaced by somebody else since, left as it is"]
    except OSError as error:
        raise not_writable(path, error) from error
    return [f"{path}: former content restored"]


def _content_before(path: Path, saved: Saved) -> bytes:
    """What the resolver read before us."""
    if saved["was"] == "link":
        return trusted_file.read_anybodys(path.parent / str(saved["target"]))
    return _decoded(saved)


def _decoded(saved: Saved) -> bytes:
    try:
        return base64.b64decode(str(saved.get("content", "")), validate=True)
    except binascii.Error:
        return b""


def _ours(wish: DnsWish, saved: Saved, before: bytes) -> tuple[bytes, Routes | None]:
    """The content of our file, and the routes of the forwarder if it needs one."""
    former = resolv_conf.parse(before)
    if not wish.divided:
        content = resolv_conf.render(
            wish.servers, wish.domains, former.options, saved, patience=resolv_conf.DIRECT
        )
        return content, None
    outer_search = usable_domains(former.search)
    routes = Routes(wish.servers, wish.interface, wish.domains, former.servers, outer_search)
    search = dict.fromkeys([*wish.domains, *outer_search])
    content = resolv_conf.render(
        [forwarding.ADDRESS], search, former.options, saved, patience=resolv_conf.FORWARDED
    )
    return content, routes
