"""Custom sign-in pages: an uploaded archive, read whole into memory and checked, or refused whole.

An archive is a ZIP file with templates (`page_template`) at its top, named `sign-in.html` and so on, and other
files that they show. What it holds is served by name from a table; no name in it ever becomes a path.
"""

from __future__ import annotations

import hashlib
import io
import re
import stat
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from lockgate.model.problem import Problem, ProblemError
from lockgate.server.page_template import VALUES, Template, TemplateError, read_template

MAX_ARCHIVE = 5 << 20  # bytes of the ZIP file
MAX_FILES = 200
MAX_FILE = 2 << 20  # bytes of one file, unpacked
MAX_TOTAL = 20 << 20  # bytes of all files, unpacked
MAX_RATIO = 100  # unpacked to packed, of files that are not small
SMALL = 64 << 10  # bytes
MAX_DEPTH = 4  # folders
MAX_CACHED = 8  # archives kept ready

TYPES: Mapping[str, tuple[str, tuple[bytes, ...]]] = {
    "css": ("text/css; charset=utf-8", ()),
    "txt": ("text/plain; charset=utf-8", ()),
    "png": ("image/png", (b"\x89PNG\r\n\x1a\n",)),
    "jpg": ("image/jpeg", (b"\xff\xd8\xff",)),
    "jpeg": ("image/jpeg", (b"\xff\xd8\xff",)),
    "gif": ("image/gif", (b"GIF87a", b"GIF89a")),
    "webp": ("image/webp", (b"RIFF",)),
    "ico": ("image/x-icon", (b"\0\0\1\0",)),
    "svg": ("image/svg+xml", (b"<svg", b"<?xml", b"<!--")),
    "woff2": ("font/woff2", (b"wOF2",)),
}
"""Files besides templates, by the end of their names: how they are served, and how they begin."""

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class Blobs(Protocol):
    """Of the store."""

    async def put(self, content: bytes) -> str: ...
    async def get(self, sha256: str) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Asset:
    """A file that a page shows."""

    content_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class PageArchive:
    """A checked archive: templates by name, without `.html`, and other files by path."""

    digest: str  # SHA-256 in hexadecimal digits
    templates: Mapping[str, Template]
    assets: Mapping[str, Asset]


def read_archive(data: bytes, *, skip_validation: bool = False) -> PageArchive:
    """The pages in a ZIP file. ProblemError "bad-sign-in-pages" lists what is wrong.

    skip_validation: accept pages that may not work. What protects people who look at them is always checked.
    """
    findings: list[str] = []
    files = _unpack(data)
    templates: dict[str, Template] = {}
    assets: dict[str, Asset] = {}
    for path, content in files.items():
        stem, _, ending = path.rpartition(".")
        if ending.lower() == "html":
            if stem not in VALUES:
                names = ", ".join(f"{name}.html" for name in VALUES)
                findings.append(f"{path}: pages are called {names}")
                continue
            try:
                text = content.decode("utf-8-sig")
                templates[stem] = read_template(stem, text, complete=not skip_validation)
            except UnicodeDecodeError:
                findings.append(f"{path}: it is not UTF-8 text")
            except TemplateError as error:
                findings += [f"{path}: {finding}" for finding in error.findings]
        elif (reason := _wrong_asset(ending.lower(), content)) is not None:
            findings.append(f"{path}: {reason}")
        else:
            assets[path] = Asset(TYPES[ending.lower()][0], content)
    if "sign-in" not in templates and not findings and not skip_validation:
        findings.append("sign-in.html is missing")
    if findings:
        raise _bad(*findings[:50])
    return PageArchive(hashlib.sha256(data).hexdigest(), templates, assets)


def _wrong_asset(ending: str, content: bytes) -> str | None:
    if ending not in TYPES:
        return f"files of this kind are not served; possible are html, {', '.join(sorted(TYPES))}"
    beginnings = TYPES[ending][1]
    if beginnings and not content.lstrip(b"\xef\xbb\xbf \r\n\t" if ending == "svg" else b"").startswith(
        beginnings
    ):
        return "it is not what its name says"
    if ending in ("css", "svg", "txt"):
        try:
            content.decode()
        except UnicodeDecodeError:
            return "it is not UTF-8 text"
    return None


def _unpack(data: bytes) -> dict[str, bytes]:
    """Files by path. Nothing is written anywhere; sizes are counted while reading, not believed."""
    if len(data) > MAX_ARCHIVE:
        raise _bad(f"the archive has more than {MAX_ARCHIVE >> 20} MB")
    files: dict[str, bytes] = {}
    seen: set[str] = set()
    total = 0
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if len(entries) > MAX_FILES:
                raise _bad(f"there are more than {MAX_FILES} files")
            for entry in entries:
                path = _checked_path(entry)
                if path.casefold() in seen:
                    raise _bad(f"{path}: this name is there twice")
                seen.add(path.casefold())
                if entry.is_dir():
                    continue
                with archive.open(entry) as file:
                    content = file.read(MAX_FILE + 1)
                total += len(content)
                if len(content) > MAX_FILE:
                    raise _bad(f"{path}: more than {MAX_FILE >> 20} MB")
                if total > MAX_TOTAL:
                    raise _bad(f"unpacked the files have more than {MAX_TOTAL >> 20} MB")
                if len(content) > SMALL and len(content) > MAX_RATIO * max(entry.compress_size, 1):
                    raise _bad(f"{path}: it is packed too tightly to be a page or a picture")
                files[path] = content
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, ValueError):
        raise _bad("this is not a ZIP file that can be read") from None
    return _without_common_folder(files)


def _checked_path(entry: zipfile.ZipInfo) -> str:
    """The entry's path; ProblemError when it is no plain file or folder with a plain name."""
    name = entry.filename
    shown = ascii(name)[1:81]
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _bad(f"{shown}: links and devices are not allowed")
    if entry.flag_bits & 0x1:
        raise _bad(f"{shown}: it is encrypted")
    if entry.compress_type not in _METHODS:
        raise _bad(f"{shown}: it is packed by a method that is not in use")
    parts = name.removesuffix("/").split("/")
    plain = all(_PART.fullmatch(part) and not part.endswith(".") for part in parts)
    if entry.orig_filename != name or not plain or len(parts) > MAX_DEPTH + 1:
        raise _bad(f"{shown}: names are letters, digits, dots, dashes, in at most {MAX_DEPTH} folders")
    return "/".join(parts)


def _without_common_folder(files: dict[str, bytes]) -> dict[str, bytes]:
    """Archives of a folder hold everything below its name: that is taken off."""
    folders = {path.partition("/")[0] if "/" in path else "" for path in files}
    if len(folders) == 1 and "" not in folders:
        return {path.partition("/")[2]: content for path, content in files.items()}
    return files


def _bad(*findings: str) -> ProblemError:
    return ProblemError(
        Problem(
            "bad-sign-in-pages",
            "The archive of sign-in pages cannot be used; nothing was stored.",
            "Correct it and upload it again; the documentation has an example.",
            findings,
        )
    )


class PageArchives:
    """Archives in the store. Those in use are kept ready, checked again when they are first needed."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._ready: OrderedDict[str, PageArchive | None] = OrderedDict()

    async def accept(self, data: bytes, *, skip_validation: bool = False) -> str:
        """Stores an archive; its SHA-256 is what a sign-in page names. ProblemError: see `read_archive`."""
        archive = read_archive(data, skip_validation=skip_validation)
        await self._blobs.put(data)
        return archive.digest

    async def get(self, digest: str) -> PageArchive | None:
        """The archive, or None when there is none that may be shown."""
        if digest in self._ready:
            self._ready.move_to_end(digest)
            return self._ready[digest]
        data = await self._blobs.get(digest)
        archive: PageArchive | None = None
        if data is not None:
            try:
                archive = read_archive(data, skip_validation=True)
            except ProblemError:
                archive = None
            if archive is not None and archive.digest != digest:
                archive = None
            self._ready[digest] = archive
            while len(self._ready) > MAX_CACHED:
                self._ready.popitem(last=False)
        return archive
