"""The key outside the store, and what it protects.

D/secrets/store.key has 32 random bytes and belongs to the owner of D. Every use has a key of its own,
derived by HKDF-SHA256 (RFC 5869): secrets in the configuration tree are sealed with AES-256-GCM (NIST
SP 800-38D), the audit's chain is made with HMAC-SHA256 (`store.chain`). Whoever has only the database
reads no secret and forges no record.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from lockgate.model.problem import Problem, ProblemError
from lockgate.protocol.secret import Secret
from lockgate.server.datadir import DataDirectory, sync_folder, write_private

KEY_BYTES = 32
PREFIX = "sealed:v1:"
"""How a sealed text begins; base64 (RFC 4648, section 5) of nonce, ciphertext and tag follows."""
NONCE_BYTES = 12  # SP 800-38D, section 8.2.2: random nonces, at most 2**32 of them under one key

CONFIGURATION = "configuration"
"""Purpose of the secrets in the tree."""


class Vault:
    """Seals texts and makes keys for other purposes. Thread-safe."""

    def __init__(self, key: Secret) -> None:
        """key: 32 bytes."""
        if len(key.reveal()) != KEY_BYTES:
            raise ValueError(f"the store's key has not {KEY_BYTES} bytes")
        self._key = key

    def subkey(self, purpose: str) -> bytes:
        """32 bytes that only this purpose has."""
        return HKDF(SHA256(), KEY_BYTES, salt=None, info=f"lockgate:{purpose}".encode()).derive(
            self._key.reveal()
        )

    def seal(self, text: str, purpose: str = CONFIGURATION) -> str:
        """`text` for nobody but `open` with the same purpose; different each time."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = AESGCM(self.subkey("seal")).encrypt(nonce, text.encode(), purpose.encode())
        return _text(nonce + sealed)

    def open(self, sealed: str, purpose: str = CONFIGURATION) -> str:
        """The text that was sealed. ProblemError when it was changed, or sealed with another key."""
        try:
            if not sealed.startswith(PREFIX):
                raise ValueError
            content = base64.b64decode(sealed[len(PREFIX) :], altchars=b"-_", validate=True)
            if _text(content) != sealed:
                raise ValueError  # bits that say nothing are not as we set them
            nonce, ciphertext = content[:NONCE_BYTES], content[NONCE_BYTES:]
            return AESGCM(self.subkey("seal")).decrypt(nonce, ciphertext, purpose.encode()).decode()
        except (ValueError, binascii.Error, InvalidTag):
            raise ProblemError(
                Problem(
                    code="secret-unreadable",
                    summary="A stored secret cannot be opened with this gateway's key.",
                    fix="Set the secret anew, or restore the key that belongs to the database from a backup.",
                )
            ) from None


def _text(content: bytes) -> str:
    return PREFIX + base64.urlsafe_b64encode(content).decode()


def has_key(directory: DataDirectory) -> bool:
    return directory.store_key.exists()


def make_key(directory: DataDirectory) -> None:
    """Makes D/secrets/store.key unless it is there; on disk when this returns."""
    with contextlib.suppress(FileExistsError):
        directory.store_key.parent.mkdir(mode=0o700)
    if has_key(directory):
        return
    # Whole or not there: half a key would shut out everything that is sealed later.
    temporary = directory.store_key.with_name(f".store.key.{secrets.token_hex(8)}")
    write_private(temporary, secrets.token_bytes(KEY_BYTES))
    try:
        os.link(temporary, directory.store_key)
    except FileExistsError:
        pass  # another process was quicker; its key counts
    finally:
        temporary.unlink()
    sync_folder(directory.store_key.parent)
    sync_folder(directory.path)


def open_vault(directory: DataDirectory) -> Vault:
    """The vault of a data directory. ProblemError when its key is not there or no key."""
    try:
        key = Secret(directory.store_key.read_bytes())
    except OSError as error:
        raise ProblemError(
            Problem(
                code="store-key-missing",
                summary=f"The key of the store, {directory.store_key}, cannot be read: {error.strerror}.",
                fix="Restore it from a backup; without it the secrets of the database cannot be opened.",
            )
        ) from None
    try:
        return Vault(key)
    except ValueError:
        raise ProblemError(
            Problem(
                code="store-key-damaged",
                summary=f"{directory.store_key} does not hold a key of {KEY_BYTES} bytes.",
                fix="Restore it from a backup.",
            )
        ) from None
