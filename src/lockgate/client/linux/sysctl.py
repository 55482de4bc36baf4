"""The one switch of the kernel that a tunnel needs on some machines, and putting it back.

With a strict reverse-path filter (rp_filter 1) the kernel asks where an answer to each packet would go, and drops
what came by another interface. An answer to the gateway goes outside by its mark, so the question must be asked
with the mark that the firewall gives these packets: that is src_valid_mark.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_ROOT = Path("/proc/sys/net/ipv4/conf")
_SWITCH = "all/src_valid_mark"
_STRICT = "1"


def needed() -> dict[str, str]:
    """Files below /proc/sys/net/ipv4/conf with the content that a tunnel needs there."""
    strict = any(_read(file) == _STRICT for file in _ROOT.glob("*/rp_filter"))
    return {_SWITCH: "1"} if strict else {}


def to_save(wanted: Mapping[str, str]) -> dict[str, str]:
    """The present content of those files that have another one."""
    present = {name: _read(_ROOT / name) for name in wanted}
    return {name: value for name, value in present.items() if value and value != wanted[name]}


def apply(wanted: Mapping[str, str]) -> None:
    """Where /proc/sys cannot be written, as in some containers, whoever made it so has to set this."""
    for name, value in wanted.items():
        with suppress(OSError):
            if _read(_ROOT / name) != value:
                (_ROOT / name).write_text(value)


def restore(saved: Mapping[str, object]) -> list[str]:
    """returns: what was put back, in words. Only our switch is touched, whatever the journal names."""
    value = saved.get(_SWITCH)
    if value not in ("0", "1") or _read(_ROOT / _SWITCH) == value:
        return []
    try:
        (_ROOT / _SWITCH).write_text(str(value))
    except OSError:
        return []
    return [f"net.ipv4.conf.{_SWITCH.replace('/', '.')}"]


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
