"""Password hashes: argon2id with the parameters of the configuration, in a bounded pool of threads."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
import unicodedata
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from lockgate.model.problem import Problem
from lockgate.protocol.secret import Secret
from lockgate.server.config.tree.authentication import Argon2

T = TypeVar("T")

SALT_BYTES, HASH_BYTES = 16, 32
# What fits the wire (if-t-tls.md, section 8.1); nobody could type more to a client.
MAX_PASSWORD_BYTES = 253


class Busy(Exception):
    """More sign-ins wait for their hash than the configuration allows."""


def prepare(password: Secret) -> bytes:
    """The bytes that are hashed: the same for every way to compose a letter (RFC 8265, OpaqueString).

    Bytes that are not UTF-8 stay as they are; no stored password matches them.
    """
    try:
        return unicodedata.normalize("NFC", password.reveal_text()).encode()
    except ValueError:
        return password.reveal()


def unfit(password: Secret, shortest: int) -> Problem | None:
    """Why nobody can have this password; None for a good one. shortest: characters, as its auth server has it."""
    try:
        characters = len(password.reveal_text())
    except ValueError:
        return Problem("password-not-text", "The password is not UTF-8 text.", "Use UTF-8 text.")
    if characters < max(shortest, 1):
        use = f"Use at least {shortest} characters." if shortest > 1 else "Type one."
        return Problem(
            "password-too-short", f"The password is {'too short' if characters else 'empty'}.", use
        )
    if len(prepare(password)) > MAX_PASSWORD_BYTES:
        use = f"Use at most {MAX_PASSWORD_BYTES} bytes."
        return Problem("password-too-long", "The password is too long.", use)
    return None


def hash_password(parameters: Argon2, password: Secret) -> str:
    """The hash to store, computed in this thread."""
    return _hasher(parameters).hash(prepare(password))


class Hasher:
    """Verifies passwords, few at a time; who would have to wait behind too many is told so."""

    def __init__(self, parameters: Argon2) -> None:
        self._hasher = _hasher(parameters)
        self._slots = asyncio.Semaphore(parameters.concurrency)
        self._queue = parameters.queue
        self._waiting = 0
        self._threads = ThreadPoolExecutor(parameters.concurrency, thread_name_prefix="argon2")
        # What unknown users are verified against: the same work, and no password fits.
        self._nobody = (
            f"$argon2id$v=19$m={parameters.memory_kib},t={parameters.time_cost},p={parameters.parallelism}"
            f"${_base64(secrets.token_bytes(SALT_BYTES))}${_base64(secrets.token_bytes(HASH_BYTES))}"
        )
        self._durations: deque[float] = deque(maxlen=16)

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """The right to hash. Raises Busy at once when the queue is full."""
        if self._waiting >= self._queue:
            raise Busy
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._slots.release()

    async def verify(self, stored: str | None, password: Secret) -> bool:
        """Whether `password` made the hash `stored`; None does the same work and is False.

        Call it inside `slot`.
        """
        started = perf_counter()
        correct = await self._in_thread(lambda: self._verify(stored or self._nobody, prepare(password)))
        self._durations.append(perf_counter() - started)
        return correct and stored is not None and bool(password)

    async def renewed(self, stored: str, password: Secret) -> str | None:
        """A new hash when `stored` was made with other parameters. Call it inside `slot`."""
        if not self._hasher.check_needs_rehash(stored):
            return None
        return await self.hash(password)

    async def hash(self, password: Secret) -> str:
        """The hash to store. Call it inside `slot`."""
        return await self._in_thread(lambda: self._hasher.hash(prepare(password)))

    async def pretend(self) -> None:
        """Takes as long as `verify` did lately, without its work: for answers that must look the same."""
        if self._durations:
            await asyncio.sleep(secrets.choice(self._durations))

    def retire(self) -> None:
        """No new work; what is under way is finished."""
        self._threads.shutdown(wait=False)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _verify(self, stored: str, password: bytes) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _hasher(parameters: Argon2) -> PasswordHasher:
    return PasswordHasher(
        time_cost=parameters.time_cost,
        memory_cost=parameters.memory_kib,
        parallelism=parameters.parallelism,
        hash_len=HASH_BYTES,
        salt_len=SALT_BYTES,
    )


def _base64(data: bytes) -> str:
    """As argon2's text form has it: without padding."""
    return base64.b64encode(data).decode().rstrip("=")
