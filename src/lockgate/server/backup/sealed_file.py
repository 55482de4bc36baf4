"""A file sealed by a passphrase, written and read as a stream.

    "lockgate-backup\\n"  magic
    length (4)            of the header, network order, as all numbers here
    header                JSON: format, salt and cost of the key, a check of the key
    blocks                length (4), then ciphertext of that length

The key is argon2id (RFC 9106) of the passphrase, new with every file by its salt. Blocks are AES-256-GCM:
nonce = number of the block (11 bytes) and 1 in the last byte of the last block's, else 0; associated
data = SHA-256 of magic and header. So no block can be left out, moved, repeated or taken from another file,
and a file that ends early is noticed (the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import struct
from typing import BinaryIO

from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from lockgate.model.problem import Problem, ProblemError
from lockgate.protocol.secret import Secret

MAGIC = b"lockgate-backup\n"
FORMAT = 1
BLOCK = 1 << 16  # bytes of plaintext; all but the last are full
TAG = 16
MAX_HEADER = 4096  # bytes

# RFC 9106, section 4, second recommended option with all lanes in one: 64 MiB, three passes.
MEMORY_KIB, PASSES, LANES = 1 << 16, 3, 1
MAX_MEMORY_KIB, MAX_PASSES, MAX_LANES = 1 << 20, 16, 16  # of a file that others may have made

_LENGTH = struct.Struct("!I")


class SealedWriter:
    """Seals what is written; nothing counts before `finish`."""

    def __init__(self, file: BinaryIO, passphrase: Secret) -> None:
        salt = secrets.token_bytes(16)
        cost = {"memory_kib": MEMORY_KIB, "passes": PASSES, "lanes": LANES}
        key = _key(passphrase, salt, **cost)
        header = json.dumps({"format": FORMAT, "salt": salt.hex(), **cost, "check": _check(key)}).encode()
        self._file, self._cipher, self._number = file, AESGCM(key), 0
        self._bound = hashlib.sha256(MAGIC + header).digest()
        self._waiting = bytearray()
        file.write(MAGIC + _LENGTH.pack(len(header)) + header)

    def write(self, content: bytes) -> None:
        self._waiting += content
        # The last block is never sealed here: only `finish` knows that it is the last.
        while len(self._waiting) > BLOCK:
            self._seal(bytes(self._waiting[:BLOCK]), last=False)
            del self._waiting[:BLOCK]

    def finish(self) -> None:
        self._seal(bytes(self._waiting), last=True)
        self._waiting.clear()

    def _seal(self, block: bytes, *, last: bool) -> None:
        sealed = self._cipher.encrypt(_nonce(self._number, last), block, self._bound)
        self._file.write(_LENGTH.pack(len(sealed)) + sealed)
        self._number += 1


class SealedReader:
    """Opens a sealed file. ProblemError "wrong-passphrase", "not-a-backup", "backup-damaged"."""

    def __init__(self, file: BinaryIO, passphrase: Secret) -> None:
        if file.read(len(MAGIC)) != MAGIC:
            raise ProblemError(
                Problem(
                    "not-a-backup", "The file is no backup of a gateway.", "Name a file of `lockgate backup`."
                )
            )
        header = self._exactly(file, self._length(file, MAX_HEADER))
        self._file, self._number, self._ended = file, 0, False
        self._cipher = AESGCM(_open_header(header, passphrase))
        self._bound = hashlib.sha256(MAGIC + header).digest()

    def read_block(self) -> bytes:
        """The next part of what was written; b"" after the last."""
        if self._ended:
            return b""
        sealed = self._exactly(self._file, self._length(self._file, BLOCK + TAG))
        for last in (False, True):
            try:
                block = self._cipher.decrypt(_nonce(self._number, last), sealed, self._bound)
            except InvalidTag:
                continue
            if last and self._file.read(1):
                raise damaged("something follows its end")
            if not last and len(block) != BLOCK:
                raise damaged("a block is too short")
            self._number, self._ended = self._number + 1, last
            return block
        raise damaged(f"block {self._number + 1} was changed")

    @staticmethod
    def _length(file: BinaryIO, most: int) -> int:
        (length,) = _LENGTH.unpack(SealedReader._exactly(file, _LENGTH.size))
        if length > most:
            raise damaged("a length in it is impossible")
        return int(length)

    @staticmethod
    def _exactly(file: BinaryIO, size: int) -> bytes:
        content = file.read(size)
        if len(content) != size:
            raise damaged("its end is missing")
        return content


def damaged(why: str) -> ProblemError:
    return ProblemError(
        Problem(
            code="backup-damaged",
            summary=f"The backup is damaged: {why}.",
            fix="Use another copy of it, or another backup.",
        )
    )


def newer() -> ProblemError:
    return ProblemError(
        Problem("backup-format", "The backup was made by a newer release.", "Restore it with that release.")
    )


def _open_header(header: bytes, passphrase: Secret) -> bytes:
    try:
        document = json.loads(header)
        version, salt, check = document["format"], bytes.fromhex(document["salt"]), document["check"]
        memory, passes, lanes = (int(document[name]) for name in ("memory_kib", "passes", "lanes"))
        usable = isinstance(check, str) and 8 <= len(salt) <= 64
        usable = usable and 1 <= passes <= MAX_PASSES and 1 <= lanes <= MAX_LANES
        usable = usable and 8 * lanes <= memory <= MAX_MEMORY_KIB
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise damaged("its beginning cannot be read") from None
    if version != FORMAT:
        raise newer()
    if not usable:
        raise damaged("its beginning says something impossible")
    key = _key(passphrase, salt, memory_kib=memory, passes=passes, lanes=lanes)
    if not hmac.compare_digest(_check(key).encode(), check.encode()):
        raise ProblemError(
            Problem(
                "wrong-passphrase",
                "The passphrase does not open this backup.",
                "Try the one it was made with.",
            )
        )
    return key


def _key(passphrase: Secret, salt: bytes, *, memory_kib: int, passes: int, lanes: int) -> bytes:
    return hash_secret_raw(passphrase.reveal(), salt, passes, memory_kib, lanes, 32, Type.ID)


def _check(key: bytes) -> str:
    # A guess at the passphrase is checked no faster with it than with the first block.
    return hmac.digest(key, b"lockgate backup check", "sha256").hex()


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11) + bytes([last])
