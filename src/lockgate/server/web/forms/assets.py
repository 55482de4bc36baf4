"""Style sheets, scripts and pictures: read once, served by names that change with what they hold.

Only what is in their folders at start can be served; no name in a request becomes a path.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources

from markupsafe import Markup
from starlette.responses import Response

_KINDS = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is served."""

    content_type: str
    content: bytes
    packed: bytes = field(repr=False)  # gzip


@dataclass(frozen=True, slots=True)
class Assets:
    """urls: by the file's own name. by_name: what is served below the base."""

    urls: Mapping[str, str]
    by_name: Mapping[str, Asset]

    def answer(self, name: str, encodings: str, headers: Mapping[str, str]) -> Response:
        """A file, kept for ever by browsers. encodings: those that the browser accepts. headers: of every answer."""
        asset = self.by_name.get(name)
        if asset is None:
            return Response("Not found.\n", status_code=404, headers=headers, media_type="text/plain")
        packed = "gzip" in encodings
        kept = {
            **headers,
            "Cache-Control": "public, max-age=31536000, immutable",
            "Vary": "Accept-Encoding",
            **({"Content-Encoding": "gzip"} if packed else {}),
        }
        return Response(
            asset.packed if packed else asset.content, media_type=asset.content_type, headers=kept
        )


@functools.cache
def load_assets(base: str, folders: tuple[str, ...] = ("static", "static/vendor")) -> Assets:
    """The files of these folders of `web`, for URLs below `base`, which ends with a slash."""
    urls: dict[str, str] = {}
    by_name: dict[str, Asset] = {}
    for folder in folders:
        for entry in resources.files("lockgate.server.web").joinpath(folder).iterdir():
            stem, _, ending = entry.name.rpartition(".")
            if ending not in _KINDS or not entry.is_file():
                continue
            content = entry.read_bytes()
            served = f"{stem}.{hashlib.sha256(content).hexdigest()[:16]}.{ending}"
            urls[entry.name] = base + served
            by_name[served] = Asset(_KINDS[ending], content, gzip.compress(content, 6, mtime=0))
    return Assets(urls, by_name)


@functools.cache
def icon(name: str, label: str = "") -> Markup:
    """An icon as it stands in the page, so that it takes the colour of the text.

    label: what it says to those who do not see it; without one it is decoration.
    """
    if not name.replace("-", "").isalnum():
        raise KeyError(name)
    path = resources.files("lockgate.server.web").joinpath("static", "vendor", "icons", f"{name}.svg")
    picture = path.read_text()
    said = Markup('role="img" aria-label="{}"').format(label) if label else Markup('aria-hidden="true"')
    return Markup(picture.replace("<svg", f'<svg {said} focusable="false"', 1).replace("\n", " "))  # noqa: S704
