"""Many transactions, one fsync: work handed in while a commit is under way shares the next one."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

from collector.errors import JournalError, JournalFull, JournalUnavailable

T = TypeVar("T")

BATCH_MAX = 256
"""Pieces of work in one commit: bounds what one failing commit takes with it."""

GATHER_SECONDS = 0.002
"""A commit waits this long for company. An fsync costs more than that, and an answer takes far longer."""


class GroupCommit:
    """Runs pieces of work on one connection, each atomic, many to a commit.

    Work runs in a thread of its own, in the order it was handed in. With `threaded=False` it
    runs at once in the caller's thread, which a simulation needs.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection], *, threaded: bool = True) -> None:
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._connection: sqlite3.Connection | None = None
        self._closing = threading.Event()
        if threaded:
            ready: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
            self._thread = threading.Thread(target=self._serve, args=(connect, ready), name="journal", daemon=True)
            self._thread.start()
            if (error := ready.get()) is not None:
                raise error
        else:
            self._connection = connect()

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a transaction and return its result once it is durable.

        An exception of `work` undoes that piece alone. When the commit itself fails, nothing of it
        happened and JournalError is raised: JournalUnavailable if it may work later.
        """
        if self._thread is None:
            assert self._connection is not None
            piece = _Work(work, None, None)
            self._commit(self._connection, [piece])
            return piece.outcome()  # type: ignore[no-any-return]
        loop = asyncio.get_running_loop()
        piece = _Work(work, loop, loop.create_future())
        self._queue.put(piece)
        # A caller that is cancelled must not leave half of its bookkeeping undone: the work is in
        # the queue, so it will happen, and its effect is durable state that a restart reads.
        return await asyncio.shield(piece.future)  # type: ignore[arg-type]

    def close(self) -> None:
        """Finish what is queued and close the connection."""
        if self._thread is not None:
            self._closing.set()
            self._queue.put(None)
            self._thread.join()
            self._thread = None
        elif self._connection is not None:
            self._connection.close()
            self._connection = None

    def _serve(self, connect: Callable[[], sqlite3.Connection], ready: queue.SimpleQueue[BaseException | None]) -> None:
        try:
            connection = connect()
        except BaseException as error:
            ready.put(error)
            return
        ready.put(None)
        running = True
        while running:
            batch: list[_Work] = []
            piece = self._queue.get()
            self._closing.wait(GATHER_SECONDS)
            while True:
                if piece is None:
                    running = False
                    break
                batch.append(piece)
                if len(batch) == BATCH_MAX:
                    break
                try:
                    piece = self._queue.get_nowait()
                except queue.Empty:
                    break
            if batch:
                self._commit(connection, batch)
                _deliver(batch)
        connection.close()

    def _commit(self, connection: sqlite3.Connection, batch: list[_Work]) -> None:
        cause: sqlite3.Error | None = None
        try:
            connection.execute("BEGIN IMMEDIATE")
            for piece in batch:
                connection.execute("SAVEPOINT piece")
                try:
                    piece.result = piece.work(connection)
                except Exception as error:
                    piece.error = translated(error)
                    cause = cause or (error if isinstance(error, sqlite3.Error) else None)
                    connection.execute("ROLLBACK TO piece")
                connection.execute("RELEASE piece")
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            # A disk that fails a piece may have ended the whole transaction: then what fails here only follows from it.
            failure = translated(cause or error)
            with contextlib.suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            for piece in batch:
                piece.error = piece.error or failure


class _Work:
    """One piece of work and where its outcome goes."""

    __slots__ = ("error", "future", "loop", "result", "work")

    def __init__(
        self,
        work: Callable[[sqlite3.Connection], Any],
        loop: asyncio.AbstractEventLoop | None,
        future: asyncio.Future[Any] | None,
    ) -> None:
        self.work = work
        self.loop = loop
        self.future = future
        self.result: Any = None
        self.error: Exception | None = None

    def outcome(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.result

    def deliver(self) -> None:
        assert self.future is not None
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


def _deliver(batch: list[_Work]) -> None:
    """Hand all outcomes to their loop in one wake-up."""
    loop = batch[0].loop
    assert loop is not None

    def deliver() -> None:
        for piece in batch:
            piece.deliver()

    try:
        loop.call_soon_threadsafe(deliver)
    except RuntimeError:
        # The loop is closed: the process is ending, and what was committed is on disk.
        return


_TRANSIENT: Final = (
    "SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PROTOCOL",
    "SQLITE_NOMEM", "SQLITE_PERM", "SQLITE_AUTH", "SQLITE_INTERRUPT",
)  # fmt: skip
"""Errors of SQLite that say nothing against the file itself, and pass when their cause does."""


def translated(error: Exception) -> Exception:
    """SQLite's errors in the project's words; others as they are."""
    if not isinstance(error, sqlite3.Error):
        return error
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith("SQLITE_FULL") or "disk is full" in str(error):
        return JournalFull(f"the journal's disk is full: {error}", hint="make room; collecting resumes by itself")
    text = f"{error} ({name or type(error).__name__})"
    if name.startswith(_TRANSIENT):
        return JournalUnavailable(
            f"the journal takes nothing at present: {text}",
            hint="end what locks it, or make its disk writable; collecting resumes by itself",
        )
    return JournalError(f"the journal failed: {text}")
