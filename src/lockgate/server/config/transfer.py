"""The document that a configuration travels in: exported, imported, pushed to other servers.

    {"lockgate": 1, "server_id": …, "revision": …, "time": …, "tree": {…} or "parts": {path: value, …},
     "blobs": {SHA-256: base64, …}, "secrets": {…}}

Secrets are left out (KEPT stands for one that is set), or encrypted under a passphrase with the parameters in
"secrets". Whoever imports a document judges it as any draft; here only its form is judged.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from lockgate.model.problem import Problem, ProblemError
from lockgate.protocol.secret import Secret
from lockgate.server.config import paths
from lockgate.server.config.bounds import check_bounds
from lockgate.server.config.changes import KEPT
from lockgate.server.config.findings import path_text, shown
from lockgate.server.config.paths import Data, format_path, parse_path
from lockgate.server.config.schema import ROOT, Names, Node, child, entry_of, transform

FORMAT = 1
ENCRYPTED = "encrypted:v1:"
_AAD = b"lockgate configuration export v1"
# RFC 9106, section 4: the second recommended option, for where memory is scarce.
MEMORY_KIB, PASSES, LANES = 65536, 3, 4
SHORTEST_PASSPHRASE = 8  # characters
MAX_PARTS = 1000
MAX_BLOBS = 400
MAX_BLOB_BYTES = 24 << 20  # a sign-in page's archive is at most 20 MiB

Mode = Literal["replace", "merge"]
Open = Callable[[str], str]
"""Opens a sealed secret."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What a document says. Secrets in `data` are plain, or KEPT."""

    data: Data
    blobs: Mapping[str, bytes]
    seed_digest: str | None  # of the config.toml that the document was made of


def export(
    tree: Data,
    parts: Iterable[str] | None,
    *,
    revision: int,
    now: float,
    open_secret: Open,
    blobs: Mapping[str, bytes],
    passphrase: Secret | None = None,
) -> dict[str, Any]:
    """A document of the whole tree, or of the settings and objects at `parts`.

    open_secret: asked only with a passphrase. blobs: those of the store; the document gets the ones it needs.
    Raises ProblemError for a path that is not there, and "passphrase-short".
    """
    document: dict[str, Any] = {
        "lockgate": FORMAT,
        "server_id": tree.get("cluster", {}).get("server_id", ""),
        "revision": revision,
        "time": dt.datetime.fromtimestamp(now, dt.UTC).isoformat(timespec="seconds"),
    }
    key: AESGCM | None = None
    if passphrase is not None:
        salt = secrets.token_bytes(16)
        key = AESGCM(_key(passphrase, salt))
        document["secrets"] = {
            "method": "argon2id aes-256-gcm",
            "salt": base64.b64encode(salt).decode(),
            "memory_kib": MEMORY_KIB,
            "passes": PASSES,
            "lanes": LANES,
        }

    def hide(_: Names, __: Node, value: Any) -> Any:
        if not isinstance(value, str) or not value:
            return ""
        return KEPT if key is None else _encrypt(key, open_secret(value))

    if parts is None:
        document["tree"] = transform(tree, "secret", hide)
        content: Any = document["tree"]
    else:
        named = {format_path(parse_path(part)): parse_path(part) for part in parts}
        document["parts"] = {
            text: transform(paths.get(tree, path), "secret", hide, paths.node_at(tree, path), path)
            for text, path in named.items()
            if path
        }
        content = document["parts"]
    needed = sorted(name for name in _blob_names(content) if name in blobs)
    document["blobs"] = {name: base64.b64encode(blobs[name]).decode() for name in needed}
    return document


def import_(document: Any, current: Data, mode: Mode, passphrase: Secret | None = None) -> Imported:
    """The tree that `document` makes of `current`.

    replace: what the document holds takes the place of what is there; a whole tree leaves nothing else.
    merge:   objects are added, or replaced by their name; sections are set; nothing is removed.
    Raises ProblemError "document-invalid", "document-too-large", "document-too-deep", "passphrase-needed",
    "passphrase-wrong", or that of a path which is not there.
    """
    check_bounds(document)
    if not isinstance(document, dict) or document.get("lockgate") != FORMAT:
        raise _invalid('it does not begin with "lockgate": 1')
    known = {"lockgate", "server_id", "revision", "time", "tree", "parts", "blobs", "secrets", "config_toml"}
    if unknown := sorted(set(document) - known):
        raise _invalid(f"it has the unknown key {shown(unknown[0])}")
    if ("tree" in document) == ("parts" in document):
        raise _invalid('it needs either "tree" or "parts"')
    reveal = _revealer(document.get("secrets"), passphrase)
    parts: dict[str, Any] = document.get("parts", {})
    tree = document.get("tree")
    if "tree" in document and not isinstance(tree, dict):
        raise _invalid(f'"tree" is {shown(tree)}')
    if not isinstance(parts, dict) or len(parts) > MAX_PARTS:
        raise _invalid(f'"parts" is not a table of at most {MAX_PARTS} paths')
    if isinstance(tree, dict):
        tree = transform(tree, "secret", reveal)
        data = tree if mode == "replace" else _merge(ROOT, current, tree)
    else:
        data = current
        for text, value in parts.items():
            data = _put(data, parse_path(text), value, mode, reveal)
    digest = document.get("config_toml")
    return Imported(data, _blobs(document.get("blobs", {})), digest if isinstance(digest, str) else None)


def _put(data: Data, path: Names, value: Any, mode: Mode, reveal: Callable[..., Any]) -> Data:
    if not path:
        raise _invalid('a part has the path ""')
    node = paths.node_at(data, path)
    value = transform(value, "secret", reveal, node, path)
    if mode == "merge":
        value = _merge(node, _present(data, path), value)
    return paths.set_value(data, path, value)


def _present(data: Data, path: Names) -> Any:
    try:
        return paths.get(data, path)
    except ProblemError:
        return None  # an object that the document brings


def _merge(node: Node, old: Any, new: Any) -> Any:
    if node.kind == "section" and node.field is None and node is not ROOT:
        return new  # an object is taken whole: half of each would be nobody's intention
    if node.kind == "section" and isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{key: _merge_key(node, old, key, value) for key, value in new.items()}}
    if node.kind == "collection" and isinstance(old, list) and isinstance(new, list):
        entry = entry_of(node)
        coming = {each.get("name"): each for each in new if isinstance(each, dict) and _hashable(each)}
        merged = [
            _merge(entry, each, coming.pop(each["name"]))
            if isinstance(each, dict) and each.get("name") in coming
            else each
            for each in old
        ]
        odd = [each for each in new if not (isinstance(each, dict) and _hashable(each))]
        return [*merged, *coming.values(), *odd]
    return new


def _hashable(entry: dict[str, Any]) -> bool:
    return isinstance(entry.get("name"), str)


def _merge_key(node: Node, old: Data, key: str, value: Any) -> Any:
    inner = child(node, key, old)
    return value if inner is None or key not in old else _merge(inner, old[key], value)


def _revealer(header: Any, passphrase: Secret | None) -> Callable[[Names, Node, Any], Any]:
    """Decrypts the secrets of a document, each when it is met."""
    key: AESGCM | None = None
    if header is not None:
        salt = _header_salt(header)
        if passphrase is not None:
            key = AESGCM(_key(passphrase, salt))

    def reveal(path: Names, _: Node, value: Any) -> Any:
        if not isinstance(value, str) or not value.startswith(ENCRYPTED):
            return value
        if key is None:
            raise ProblemError(
                Problem(
                    code="passphrase-needed",
                    summary="The document holds secrets under a passphrase.",
                    fix="Give the passphrase that it was exported with.",
                )
            )
        try:
            return _decrypt(key, value)
        except (ValueError, binascii.Error, InvalidTag):
            raise ProblemError(
                Problem(
                    code="passphrase-wrong",
                    summary=f"The secret {path_text(path)} of the document cannot be opened.",
                    fix="Give the passphrase that it was exported with, and the document as it was written.",
                )
            ) from None

    return reveal


def _header_salt(header: Any) -> bytes:
    # Only our own cost: a document must not choose how much memory a hash takes.
    fits = (
        isinstance(header, dict)
        and header.get("method") == "argon2id aes-256-gcm"
        and header.get("memory_kib") == MEMORY_KIB
        and header.get("passes") == PASSES
        and header.get("lanes") == LANES
        and isinstance(header.get("salt"), str)
        and len(header["salt"]) <= 100
    )
    if not fits:
        raise _invalid('"secrets" names an unknown way of encryption')
    try:
        salt = base64.b64decode(header["salt"], validate=True)
    except (ValueError, binascii.Error):
        salt = b""
    if len(salt) < 8:
        raise _invalid('"secrets" has no salt')
    return salt


def _key(passphrase: Secret, salt: bytes) -> bytes:
    if len(passphrase.reveal_text()) < SHORTEST_PASSPHRASE:
        raise ProblemError(
            Problem(
                code="passphrase-short",
                summary="The passphrase is too short.",
                fix=f"Give one of at least {SHORTEST_PASSPHRASE} characters.",
            )
        )
    return hash_secret_raw(
        passphrase.reveal(),
        salt,
        time_cost=PASSES,
        memory_cost=MEMORY_KIB,
        parallelism=LANES,
        hash_len=32,
        type=Type.ID,
    )


def _encrypt(key: AESGCM, text: str) -> str:
    nonce = secrets.token_bytes(12)
    return ENCRYPTED + base64.urlsafe_b64encode(nonce + key.encrypt(nonce, text.encode(), _AAD)).decode()


def _decrypt(key: AESGCM, text: str) -> str:
    content = base64.b64decode(text[len(ENCRYPTED) :], altchars=b"-_", validate=True)
    return key.decrypt(content[:12], content[12:], _AAD).decode()


def _blob_names(value: Any) -> set[str]:
    """The uploads that a tree, or parts of one, refer to: sign-in pages name them by SHA-256."""
    found: set[str] = set()
    level = [value]
    while level:
        each = level.pop()
        if isinstance(each, dict):
            name = each.get("templates")
            if isinstance(name, str) and name:
                found.add(name)
            level.extend(each.values())
        elif isinstance(each, list):
            level.extend(each)
    return found


def _blobs(value: Any) -> dict[str, bytes]:
    if not isinstance(value, dict) or len(value) > MAX_BLOBS:
        raise _invalid(f'"blobs" is not a table of at most {MAX_BLOBS} uploads')
    blobs: dict[str, bytes] = {}
    for name, text in value.items():
        if not isinstance(text, str) or len(text) > MAX_BLOB_BYTES * 4 // 3 + 4:
            raise _invalid(f"the upload {shown(name)} is too large or no text")
        try:
            content = base64.b64decode(text, validate=True)
        except (ValueError, binascii.Error):
            raise _invalid(f"the upload {shown(name)} is not base64") from None
        if hashlib.sha256(content).hexdigest() != name:
            raise _invalid(f"the upload {shown(name)} is not what its name says")
        blobs[name] = content
    return blobs


def _invalid(wrong: str) -> ProblemError:
    return ProblemError(
        Problem(
            code="document-invalid",
            summary=f"The document is no exported configuration: {wrong}.",
            fix="Give a file that `lockgate config export` wrote.",
        )
    )
