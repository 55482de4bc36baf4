"""Style sheet, script and mark of the portal: read once, served by names that change with what they hold."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

BASE = "/portal/files/"

_KINDS = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class File:
    content_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Files:
    """urls: by plain name. by_name: what is served below BASE."""

    urls: Mapping[str, str]
    by_name: Mapping[str, File]


def load_files() -> Files:
    """Everything in the folder `assets`."""
    urls: dict[str, str] = {}
    by_name: dict[str, File] = {}
    for entry in resources.files(__package__).joinpath("assets").iterdir():
        stem, _, kind = entry.name.rpartition(".")
        if kind not in _KINDS:
            continue
        content = entry.read_bytes()
        served = f"{stem}.{hashlib.sha256(content).hexdigest()[:16]}.{kind}"
        urls[entry.name] = BASE + served
        by_name[served] = File(_KINDS[kind], content)
    return Files(urls, by_name)
