"""`Quotas`: how much a server may keep on disk and in memory; above, writes are refused and everything else goes on."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from server.errors import ResourceExhausted

STORING = frozenset(
    f"/glimpse.v1.GalleryService/{name}"
    for name in ("CreateGallery", "Upsert", "UpdateItem", "CreateSnapshot", "RestoreSnapshot", "MigrateGallery")
)
"""Methods that need room. Those that delete make some, and are never refused."""
LOOK_SECONDS = 1.0
"""Between two looks at the folder; memory is looked at every time."""
RETRY_SECONDS = 30.0
CONTAINER_SHARE = 0.9
_CGROUP = Path("/sys/fs/cgroup/memory.max")


class Quotas:
    """Asked before each write. From any thread.

    Deleting and erasing are never refused: they make room, and writes resume by themselves once there is some. What a
    write takes is not known before, so that the last one may end a little above.

    Args:
        folder: the data folder; everything in it counts.
        disk_bytes: what it may take; 0 for any amount.
        memory_bytes: what the process may have resident; 0 for 90 % of what its container allows, if it is in one.
        resident: tells the resident bytes of the process.
        clock: seconds.
    """

    def __init__(
        self,
        folder: Path,
        disk_bytes: int = 0,
        memory_bytes: int = 0,
        *,
        resident: Callable[[], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.disk_bytes = disk_bytes
        self.memory_bytes = memory_bytes or int(CONTAINER_SHARE * container_bytes())
        self._folder = folder
        self._resident = resident or resident_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._looked = float("-inf")
        self._used = 0

    def check(self) -> None:
        """ResourceExhausted when there is no room for writes; the message says how much is used and allowed."""
        if self.disk_bytes and self.used() > self.disk_bytes:
            raise ResourceExhausted(
                f"the data folder takes {mebibytes(self._used)} and may take {mebibytes(self.disk_bytes)}: writes are "
                "refused, searches go on; delete something, or raise --disk-quota",
                retry_after=RETRY_SECONDS,
            )
        if self.memory_bytes and (used := self._resident()) > self.memory_bytes:
            raise ResourceExhausted(
                f"the server takes {mebibytes(used)} of memory and may take {mebibytes(self.memory_bytes)}: writes are "
                "refused, searches go on; delete something, or raise --memory-limit",
                retry_after=RETRY_SECONDS,
            )

    def used(self) -> int:
        """Bytes that the data folder takes, as of the last second."""
        with self._lock:
            if self._clock() - self._looked >= LOOK_SECONDS:
                self._used = folder_bytes(self._folder)
                self._looked = self._clock()
            return self._used


def folder_bytes(folder: Path) -> int:
    """What a data folder takes. Pages that a database keeps free for its next writes do not count."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place) / name
            with suppress(OSError):  # a temporary file that has gone since
                total += path.stat().st_size
                if path.suffix == ".db":
                    total -= min(total, _free_bytes(path))
    return total


def _free_bytes(database: Path) -> int:
    # Only through SQLite: closing a plain file handle would drop the locks that this process holds on the file.
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=0.1)) as connection:
            pages = connection.execute("PRAGMA freelist_count").fetchone()[0]
            return int(pages) * int(connection.execute("PRAGMA page_size").fetchone()[0])
    except sqlite3.Error:
        return 0


def resident_bytes(statm: Path = Path("/proc/self/statm")) -> int:
    """Resident memory of this process, 0 where the system does not say (anything but Linux)."""
    try:
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def container_bytes(limit: Path = _CGROUP) -> int:
    """What the container may take, 0 when it is not limited or there is none."""
    try:
        text = limit.read_text().strip()
        return 0 if text == "max" else int(text)
    except (OSError, ValueError):
        return 0


def mebibytes(count: int) -> str:
    """``1,234 MiB``."""
    return f"{count / (1 << 20):,.0f} MiB"
