"""The SQLite file of a data folder: opened, checked, locked, and its errors put into sentences.

WAL mode, ``synchronous=FULL``, ``secure_delete=ON``. One writer connection behind a lock, readers beside it. What a
call changes and the row of the audit trail that says so are one transaction.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from server.errors import ResourceExhausted, ServerError, Unavailable
from server.galleries.tables import FORMAT, make_tables, missing_tables
from server.security import audit
from server.security.trail import Digester, append, text_of

FILE = "glimpse.db"
LOCK = "lock"
ASIDE = "damaged-"
"""What the folders begin with in which `recover` keeps damaged stores."""
APPLICATION_ID = 0x474C4D50  # "GLMP"
PAGE_BYTES = 16_384
"""Of new files. An item of 2,048 dimensions takes 4.2 KB: of these pages three hold, of 8,192 bytes one. Larger ones
make batches little faster and single writes slower."""
KEY_BYTES = 32
CHECKPOINT_PAGES = 1024  # the write-ahead log is folded into the file every 16 MiB
EXAMINED_BYTES = 256 << 20
"""A larger file is examined from end to end (8 GB of a million items: 20 s of a disk of 400 MB/s) only if the last
process was killed. Whatever is read of it is held against its checksum all the same."""

_NO_ROOM = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR_WRITE,
    sqlite3.SQLITE_IOERR_SHMSIZE,
    sqlite3.SQLITE_IOERR_SHMOPEN,
}


class StoreError(Exception):
    """The data folder cannot be opened; the message says why and what to do. Raised at start only."""


class Database:
    """Connections to one data folder, held exclusively by this process until `close`.

    Raises:
        StoreError: the folder cannot be used, another process uses it, the file is damaged or of a newer format.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / FILE
        self._readers: list[sqlite3.Connection] = []
        self._readers_lock = threading.Condition()
        self._reading = 0
        self._paused = False
        self._exempt = threading.local()
        """Threads that read or write already: they are not kept waiting by `alone`, which waits for them."""
        self._write_lock = threading.Lock()
        self._closed = threading.Event()
        self._lock_file = _lock(folder)
        try:
            with self.starting():
                self._own()
                # A log is left behind by a process that was killed, and never by `close`.
                unclean = self._path.with_name(f"{FILE}-wal").exists()
                self._writer = self._connect()
                try:
                    self._open(unclean)
                    self.digester = Digester(self.key("audit"))
                except BaseException:
                    self._writer.close()
                    raise
            self._inode = self._path.stat().st_ino
        except BaseException:
            os.close(self._lock_file)
            raise

    @contextmanager
    def starting(self) -> Iterator[None]:
        """For what is read at start: whatever SQLite finds wrong becomes a StoreError."""
        try:
            yield
        except UnicodeDecodeError as error:  # from SQLite's own messages about a schema that is damaged
            raise self.damaged("it holds text that is not UTF-8") from error
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "")
            # Errors without a name are Python's own: text that is not UTF-8.
            if not name or name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
                raise self.damaged(str(error)) from error
            if error.sqlite_errorcode in _NO_ROOM:
                reason = "the disk is full; free some space and start again"
            else:
                reason = f"{error} ({name}); check its permissions and the disk"
            raise StoreError(f"{self._path} cannot be opened: {reason}") from error

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction: committed, and on disk, when the block ends; rolled back when it raises.

        With it is written the row of the audit trail that `server.security.audit.pending` asks for.

        Raises:
            ResourceExhausted: the disk is full.
            Unavailable: the disk fails otherwise, or the database is closed.
        """
        with self._write_lock, self._exempted():
            if self._closed.is_set():
                raise _stopping()
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                entry = audit.pending()
                try:
                    yield self._writer
                    if entry is not None:
                        entry.time = time.time_ns() // 1000
                        append(self._writer, [(text_of(entry), self.digester.all_of(entry))])
                    self._writer.execute("COMMIT")
                except BaseException:
                    if self._writer.in_transaction:  # SQLite has rolled back by itself after some errors
                        self._writer.execute("ROLLBACK")
                    raise
                if entry is not None:
                    entry.written()
            except sqlite3.Error as error:
                raise _refusal(error) from error

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A reader of its own for the block. Unavailable when the disk fails or the database is closed."""
        with self._readers_lock:
            while self._paused and not getattr(self._exempt, "depth", 0):
                self._readers_lock.wait()
            if self._closed.is_set():
                raise _stopping()
            connection = self._readers.pop() if self._readers else None
            self._reading += 1
        try:
            with self._exempted():
                connection = connection or self._connect()
                yield connection
        except sqlite3.Error as error:
            raise _refusal(error) from error
        finally:
            with self._readers_lock:
                self._reading -= 1
                self._readers_lock.notify_all()
                if connection and self._closed.is_set():
                    connection.close()
                elif connection:
                    self._readers.append(connection)

    @contextmanager
    def alone(self) -> Iterator[tuple[Path, list[int]]]:
        """For the block, the file is closed and its log folded into it and gone; whoever wants to read or write waits.

        Yields the path of the file and the root pages of its tables.

        Raises:
            ResourceExhausted, Unavailable: the disk is full or fails, or the database is closed; the log stays then.
        """
        with self._readers_lock:
            while self._paused:
                self._readers_lock.wait()
            self._paused = True
        try:
            with self._readers_lock:
                while self._reading:
                    self._readers_lock.wait()
            # Whoever writes meanwhile may read too, and is done with both when the lock is free.
            with self._write_lock:
                if self._closed.is_set():
                    raise _stopping()
                roots = self._fold()
                try:
                    yield self._path, roots
                finally:
                    self._writer = self._connect()
        finally:
            with self._readers_lock:
                self._paused = False
                self._readers_lock.notify_all()

    def _fold(self) -> list[int]:
        try:
            roots = [root for (root,) in self._writer.execute("SELECT rootpage FROM sqlite_master WHERE rootpage > 0")]
            with self._readers_lock:
                while self._readers:
                    self._readers.pop().close()
            busy, left, folded = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy or left != folded:
                raise Unavailable("the store's log is in use and cannot be emptied just now", retry_after=1.0)
            self._writer.close()
        except sqlite3.Error as error:
            raise _refusal(error) from error
        return roots

    @contextmanager
    def _exempted(self) -> Iterator[None]:
        self._exempt.depth = getattr(self._exempt, "depth", 0) + 1
        try:
            yield
        finally:
            self._exempt.depth -= 1

    def key(self, name: str) -> bytes:
        """A secret of this store, `KEY_BYTES` random bytes, made when it is asked for the first time."""
        with self._write_lock:
            found = self._writer.execute("SELECT value FROM keys WHERE name = ?", (name,)).fetchone()
            if found:
                return bytes(found[0])
            value = secrets.token_bytes(KEY_BYTES)
            self._writer.execute("INSERT INTO keys (name, value) VALUES (?, ?)", (name, value))
            return value

    def check(self) -> None:
        """Unavailable unless the file is still where it was and can be read."""
        try:
            moved = self._path.stat().st_ino != self._inode
        except OSError:
            moved = True
        if moved:
            raise Unavailable("the store's file was removed or replaced while the server was running; restart it")
        with self.read() as connection:
            connection.execute("SELECT count(*) FROM galleries").fetchone()

    def aside(self) -> list[str]:
        """The folders of damaged stores, which nobody can search for what is to be erased."""
        return sorted(path.name for path in self.folder.glob(f"{ASIDE}*"))

    def close(self) -> None:
        """Folds the log into the file and lets go of the folder."""
        with self._write_lock:
            if self._closed.is_set():
                return
            self._closed.set()
            with self._readers_lock:
                while self._readers:
                    self._readers.pop().close()
            self._writer.close()  # the last connection to close checkpoints and removes the log
            os.close(self._lock_file)

    def damaged(self, reason: str) -> StoreError:
        """The error for contents that are not what was written."""
        return StoreError(
            f"{self._path} is damaged ({reason}). Stop the server, move the damaged file and its -wal and -shm files "
            f"away, and put back a copy from your backup; or begin anew from the snapshots in the data folder with: "
            f"glimpse restore --data FOLDER; or save what can be read with: sqlite3 {FILE} .recover"
        )

    def _own(self) -> None:
        """Makes the file, if there is none, its owner's alone; SQLite gives its log the same mode."""
        try:
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise StoreError(f"{self._path} cannot be opened: {error.strerror}") from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=30)
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {4 * CHECKPOINT_PAGES * PAGE_BYTES}")
        return connection

    def _open(self, unclean: bool) -> None:
        writer = self._writer
        version = _pragma(writer, "user_version")
        application = _pragma(writer, "application_id")
        tables = writer.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and application != APPLICATION_ID:
            raise StoreError(f"{self._path} is not a Glimpse store; choose another data folder")
        if version > FORMAT:
            raise StoreError(
                f"{self._path} has store format {version}, newer than this Glimpse reads ({FORMAT}); upgrade Glimpse"
            )
        if not tables:
            writer.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        mode = _pragma(writer, "journal_mode = WAL")
        if mode != "wal":
            raise StoreError(f"{self._path} cannot use a write-ahead log (journal mode {mode}); use a local disk")
        if unclean or self._path.stat().st_size <= EXAMINED_BYTES:
            verdict = _pragma(writer, "quick_check(1)")
            if verdict != "ok":
                raise self.damaged(str(verdict))
        if version < FORMAT:
            # One transaction: a kill leaves a store of the old format, never one in between.
            writer.execute("BEGIN IMMEDIATE")
            make_tables(writer, version)
            writer.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            writer.execute(f"PRAGMA user_version = {FORMAT}")
            writer.execute("COMMIT")
        if missing := missing_tables(writer):
            raise self.damaged(f"it has no table {missing[0]!r}")


def _lock(folder: Path) -> int:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StoreError(f"data folder {folder} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.read(handle, 32).decode(errors="replace").strip()
        os.close(handle)
        raise StoreError(
            f"data folder {folder} is in use by another Glimpse server (process {owner or 'unknown'}); "
            "stop it, or choose another data folder"
        ) from error
    # A full disk must not keep the server from answering searches; the number is only told to people.
    with suppress(OSError):
        os.ftruncate(handle, 0)
        os.write(handle, f"{os.getpid()}\n".encode())
    return handle


def _pragma(connection: sqlite3.Connection, pragma: str) -> Any:
    return connection.execute(f"PRAGMA {pragma}").fetchone()[0]


def _stopping() -> Unavailable:
    return Unavailable("the store is closed: the server is stopping")


def _refusal(error: sqlite3.Error) -> ServerError:
    if getattr(error, "sqlite_errorcode", None) in _NO_ROOM:
        return ResourceExhausted("disk is full: writes are refused, searches go on", retry_after=30.0)
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return Unavailable(f"the store cannot be used just now ({name}); check the server's disk")
