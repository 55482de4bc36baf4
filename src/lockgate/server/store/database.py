"""A database on threads of its own: what SQLite and PostgreSQL have in common.

One connection, used by one thread, so that the event loop never waits for the disk and no two
statements of this process meet; a second pair of both for reads that may take long, so that nobody who
signs in waits for somebody who searches. Writers of other processes wait for each other in the database:
one writes at a time, and sees everything that was written before.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, TypeVar

from sqlalchemy import Connection, Engine, UpdateBase
from sqlalchemy.exc import DatabaseError, DataError

from lockgate.model.problem import Problem, ProblemError
from lockgate.server import tracing

T = TypeVar("T")

BUSY_TIMEOUT = 5000  # milliseconds to wait for another process that writes
# Callers that may wait for the thread; at a quarter of a millisecond each this is half a second.
MAX_WAITING = 2000


class Lane:
    """A thread and its connection."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self.waiting = 0
        self._engine = engine
        self._connection: Connection | None = None
        self._failure: tuple[float, DatabaseError] | None = None  # when it could not connect last, and why

    @property
    def is_connected(self) -> bool:
        return self._connection is not None

    def connection(self) -> Connection:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def give_up(self, asked: float) -> None:
        """Fails whoever asked before the last attempt to connect had failed: an attempt may take seconds, and
        hundreds may wait. asked: when, by the monotonic clock."""
        if self._connection is None and self._failure is not None and asked < self._failure[0]:
            raise self._failure[1]

    def _connect(self) -> Connection:
        try:
            connection = self._engine.connect()
        except DatabaseError as error:
            self._failure = time.monotonic(), error.with_traceback(None)
            raise
        self._failure = None
        return connection

    def disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def undo(self) -> None:
        """Back to where nothing has begun, whatever state the connection is in."""
        if self._connection is None:
            return
        try:
            self._connection.rollback()
            if not self._connection.invalidated:
                # After a commit that failed SQLAlchemy believes that there is nothing left to undo.
                self._connection.connection.rollback()
        except Exception:
            # What cannot be undone here the database undoes when nobody is there any more.
            with contextlib.suppress(Exception):
                self._connection.invalidate()
            with contextlib.suppress(Exception):
                self.disconnect()


class Database(abc.ABC):
    """Reads and writes as functions of a connection; each is one transaction."""

    system: ClassVar[str]
    """As OpenTelemetry calls it."""

    def __init__(self, engine: Engine, aside: Engine, name: str) -> None:
        """aside: for reads that may take long. name: what people call it; without passwords."""
        self.name = name
        self._engines = (engine, aside)
        self._main, self._aside = Lane(engine, "store"), Lane(aside, "store-aside")

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Runs `work` on one consistent state. Raises ProblemError when the database cannot be used."""
        return await self._read(self._main, work)

    async def read_one(self, work: Callable[[Connection], T]) -> T:
        """`read` for a single statement, which sees one state by itself: cheaper."""
        with self._traced("read", work):
            return await self._run(self._main, lambda: self._single(self._main, work))

    async def read_aside(self, work: Callable[[Connection], T]) -> T:
        """The same for what may take long: nothing but its like waits for it. Sees all that is committed."""
        return await self._read(self._aside, work)

    async def write(self, work: Callable[[Connection], T], *, sync: bool = True) -> T:
        """Runs `work` alone among all writers; committed when this returns, undone when it raises.

        sync: on disk as well, so that it outlives a power failure and not only this process. Writes
        that take a right away need that; one that gives a right may be lost with the power, which
        costs a new sign-in and saves milliseconds for everybody.
        """

        def begin(connection: Connection) -> None:
            self._begin_write(connection, sync)

        with self._traced("write", work):
            return await self._run(self._main, lambda: self._transaction(self._main, begin, work))

    async def change(self, statement: UpdateBase, values: Any = None, *, sync: bool = True) -> int:
        """`write` of one statement; how many rows it inserted, updated or deleted."""
        return await self.write(lambda connection: connection.execute(statement, values).rowcount, sync=sync)

    async def changed_elsewhere(self) -> bool:
        """Whether another connection committed since the last call; the first call says True. Cheap."""
        return await self._run(self._main, lambda: self._changed(self._main))

    async def close(self) -> None:
        """Waits for what is under way; nothing may be asked afterwards."""
        for lane in (self._aside, self._main):
            if lane.is_connected:
                await self._run(lane, lane.disconnect)
            lane.thread.shutdown(wait=False)
        for engine in self._engines:
            engine.dispose()

    @abc.abstractmethod
    def _begin_read(self, connection: Connection) -> None:
        """Begins a transaction that sees one state and changes nothing."""

    @abc.abstractmethod
    def _alone(self, connection: Connection, alone: bool) -> None:
        """The next statements are a transaction each, if `alone`."""

    @abc.abstractmethod
    def _begin_write(self, connection: Connection, sync: bool) -> None:
        """Begins a transaction that is the only one that writes."""

    @abc.abstractmethod
    def _changed(self, lane: Lane) -> bool: ...

    @property
    @abc.abstractmethod
    def _advice(self) -> str:
        """What to look at when it cannot be used."""

    async def _read(self, lane: Lane, work: Callable[[Connection], T]) -> T:
        with self._traced("read", work):
            return await self._run(lane, lambda: self._transaction(lane, self._begin_read, work))

    def _traced(self, what: str, work: Callable[[Connection], Any]) -> tracing.Span:
        """A span of one transaction, its wait for the thread included; statements and values stay out."""
        if not tracing.current().is_recorded:
            return tracing.NOTHING
        about = {
            "db.system.name": self.system,
            "db.operation.name": what,
            "code.function.name": getattr(work, "__qualname__", type(work).__name__),
        }
        return tracing.part(f"store {what}", about, kind="client")

    async def _run(self, lane: Lane, work: Callable[[], T]) -> T:
        if lane.waiting >= MAX_WAITING:
            raise ProblemError(
                Problem("store-busy", "The database has more to do than it can.", "Try again in a moment.")
            )
        lane.waiting += 1
        asked = time.monotonic()
        try:
            return await asyncio.get_running_loop().run_in_executor(
                lane.thread, self._guarded, lane, work, asked
            )
        finally:
            lane.waiting -= 1

    def _guarded(self, lane: Lane, work: Callable[[], T], asked: float) -> T:
        try:
            lane.give_up(asked)
            return work()
        except (DataError, UnicodeEncodeError):
            # Texts are bounded and checked before they come here, except those that are searched for.
            raise ProblemError(
                Problem(
                    code="bad-value",
                    summary="A value is too long, or has characters that the database cannot hold.",
                    fix="Leave out control characters, or write less.",
                )
            ) from None
        except DatabaseError as error:
            if error.connection_invalidated:
                lane.disconnect()
            # The driver's own words, in one line: SQLAlchemy's text would carry the statement's values.
            why = " ".join(str(error.orig).split())
            raise ProblemError(
                Problem(
                    code="database-failed",
                    summary=f"The database {self.name} cannot be used: {why}.",
                    fix=self._advice,
                )
            ) from None

    def _transaction(
        self, lane: Lane, begin: Callable[[Connection], None], work: Callable[[Connection], T]
    ) -> T:
        connection = self._begun(lane, begin)
        try:
            result = work(connection)
            connection.commit()  # a full disk may show here first
        except BaseException:
            lane.undo()
            raise
        return result

    def _single(self, lane: Lane, work: Callable[[Connection], T]) -> T:
        while True:
            fresh = not lane.is_connected
            connection = lane.connection()
            self._alone(connection, True)
            try:
                return work(connection)
            except DatabaseError as error:
                if fresh or not error.connection_invalidated:
                    raise
                # As in `_begun`: the database was restarted. Nothing was changed, so it can be asked again.
                lane.disconnect()
            finally:
                if lane.is_connected:
                    connection.rollback()
                    self._alone(connection, False)

    def _begun(self, lane: Lane, begin: Callable[[Connection], None]) -> Connection:
        fresh = not lane.is_connected
        connection = lane.connection()
        try:
            begin(connection)
        except DatabaseError as error:
            if fresh or not error.connection_invalidated:
                lane.undo()
                raise
            # The database was restarted since the last statement. Nothing has been asked of it yet.
            lane.disconnect()
            connection = lane.connection()
            begin(connection)
        return connection
