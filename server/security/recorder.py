"""`Recorder`: writes to the audit trail what no transaction has written: reads, refusals, failures.

They are collected for `FLUSH_SECONDS` and written in one transaction, so that a search does not wait for the disk: a
kill can lose the rows of the last moment's reads, never those of a change. A server that must not answer what is not
on record is told ``audit=strict``: an answer then waits for its row.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal

from server.errors import ServerError
from server.security.audit import OK, Entry
from server.security.segments import prune, seal, sweep
from server.security.trail import append, head_of, text_of

if TYPE_CHECKING:
    from server.galleries.database import Database

Mode = Literal["batched", "strict", "off"]

FLUSH_SECONDS = 0.2
RETRY_SECONDS = 2.0
UPKEEP_SECONDS = 60.0
MAX_WAITING = 20_000
"""Rows kept in memory while the disk takes none."""
LOST = "AuditLost"
"""The row that says how many rows could not be written."""
_MERGED = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "UNAVAILABLE"})
"""Outcomes of which a flood may come: equal ones of a moment are one row that counts them."""

_log = logging.getLogger("glimpse.audit")


class Recorder:
    """Used on the event loop; writes in a thread of its own.

    Args:
        mode: ``batched``, ``strict``, or ``off``: nothing that callers do is noted.
        keep_days: sealed segments are deleted when older; 0 keeps all.
    """

    def __init__(self, mode: Mode, keep_days: float = 0) -> None:
        self.mode = mode
        self._keep_days = keep_days
        self._database: Database | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._waiting: list[Entry] = []
        self._merged: dict[tuple[str, ...], Entry] = {}
        self._lost = 0
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._upkeep: asyncio.Task[None] | None = None

    @property
    def on(self) -> bool:
        return self.mode != "off"

    @property
    def strict(self) -> bool:
        return self.mode == "strict"

    async def open(self, database: Database) -> None:
        """Begins to write; what came before waits. Logs the head of the trail."""
        self._database = database
        self._thread = ThreadPoolExecutor(1, "audit")
        await self._in_thread(self._begin, database)
        self._upkeep = asyncio.create_task(self._every_minute())
        if self._waiting:
            self._soon(0)

    async def close(self) -> None:
        """Writes what waits."""
        if self._database is None or self._thread is None:
            return
        assert self._upkeep is not None
        self._upkeep.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._upkeep
        with contextlib.suppress(ServerError):
            await self.durable()
        if self._timer is not None:
            self._timer.cancel()
        await self._in_thread(self._tell_head, self._database)
        await asyncio.to_thread(self._thread.shutdown)
        self._database = None

    def add(self, entry: Entry) -> None:
        """Notes a call that has ended, unless its transactions have said it all."""
        if not self.on or (entry.rows and entry.code == OK):
            return
        if entry.code in _MERGED:
            entry.peer = entry.peer.rpartition(":")[0] or entry.peer
            key = (entry.method, entry.caller, entry.peer, entry.gallery, entry.target, entry.code)
            same = self._merged.get(key)
            if same is not None:
                same.calls += entry.calls
                return
            self._merged[key] = entry
        if len(self._waiting) >= MAX_WAITING:
            self._lost += 1
            return
        self._waiting.append(entry)
        if self._timer is None and self._flushing is None and self._database is not None:
            self._soon(FLUSH_SECONDS)

    async def durable(self) -> None:
        """Returns when all that was added is on disk.

        Raises:
            ResourceExhausted, Unavailable: the disk is full or fails; what was added waits on.
        """
        while (self._waiting or self._flushing is not None) and self._database is not None:
            if self._flushing is None:
                self._start()
            assert self._flushing is not None
            await asyncio.shield(self._flushing)

    def _soon(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._start)

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._flushing is None and self._waiting:
            self._flushing = asyncio.get_running_loop().create_task(self._flush())
            self._flushing.add_done_callback(_heard)

    async def _flush(self) -> None:
        entries, self._waiting, self._merged = self._waiting, [], {}
        lost, self._lost = self._lost, 0
        if lost:
            gap = Entry(LOST, "server", "")
            gap.count = lost
            entries.append(gap)
        assert self._database is not None
        delay = FLUSH_SECONDS
        try:
            await self._in_thread(write_entries, self._database, entries)
        except ServerError as error:
            self._waiting = entries[: len(entries) - (lost > 0)] + self._waiting
            self._lost += lost
            delay = RETRY_SECONDS
            _log.error("%d rows of the audit trail wait: %s", len(self._waiting), error)
            raise
        finally:
            self._flushing = None
            if self._waiting:
                self._soon(delay)

    async def _every_minute(self) -> None:
        while True:
            await asyncio.sleep(UPKEEP_SECONDS)
            assert self._database is not None
            try:
                await self._in_thread(self._tidy, self._database)
            except Exception as error:  # a full disk, say, must not end the upkeep for good
                _log.error("the audit trail's upkeep failed", exc_info=error)

    def _begin(self, database: Database) -> None:
        for name in sweep(database):
            _log.warning("removed %s, which a server that was killed had not finished", name)
        try:
            self._tidy(database)
        except (OSError, ServerError) as error:  # a full disk must not keep a server from starting
            _log.error("the audit trail's upkeep failed: %s", error)
        self._tell_head(database)

    def _tidy(self, database: Database) -> None:
        if seal(database):
            self._tell_head(database)
        if self._keep_days:
            for name in prune(database, self._keep_days):
                _log.info("deleted %s of the audit trail, older than %g days", name, self._keep_days)

    def _tell_head(self, database: Database) -> None:
        """The head in the log is out of reach of whoever gets at the store."""
        with database.read() as connection:
            seq, digest = head_of(connection)
        _log.info("audit trail head %d:%s", seq, digest.hex())

    async def _in_thread(self, work: Callable[..., None], *args: Any) -> None:
        assert self._thread is not None
        await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)


def write_entries(database: Database, entries: list[Entry]) -> None:
    """Adds a row for each entry, in one transaction."""
    said = [(text_of(entry), database.digester.all_of(entry)) for entry in entries]
    with database.write() as connection:
        append(connection, said)


def _heard(task: asyncio.Task[None]) -> None:
    """Whoever waited has the exception, and the log has it too."""
    if not task.cancelled():
        task.exception()
