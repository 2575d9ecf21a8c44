"""Named points at which a test may have the process die, between the steps of everything that takes several.

``GLIMPSE_FAULT=restore.swapped`` ends the process with `EXIT_CODE` the first time that point is reached, without
cleaning up, as a kill or a power cut would; ``restore.swapped:3`` the third time; ``restore.swapped!`` raises there
instead, as an unexpected error would. Without the variable a point costs one look at a module's variable.
"""

from __future__ import annotations

import os
import re
import threading

VARIABLE = "GLIMPSE_FAULT"
EXIT_CODE = 137

POINTS = (
    "erase.chosen",
    "erase.deleted",
    "erase.committed",
    "erase.purged",
    "erase.backups",
    "erase.folded",
    "erase.scrubbed",
    "erase.finished",
    "backup.begun",
    "backup.written",
    "backup.renamed",
    "backup.purging",
    "restore.checked",
    "restore.begun",
    "restore.filled",
    "restore.swapping",
    "restore.swapped",
    "restore.dropped",
    "alias.written",
    "alias.committed",
    "migrate.noted",
    "migrate.created",
    "migrate.stored",
    "migrate.swapping",
    "migrate.swapped",
    "seal.written",
    "seal.renamed",
    "seal.swapped",
    "seal.removed",
)
"""Every point there is, so that the tests reach all of them."""

_WANTED = re.compile(r"(?P<name>[a-z.-]+)(:(?P<count>[1-9]\d*))?(?P<raises>!)?")


class Fault(Exception):
    """What a point raises when it is told to."""


class _Armed:
    def __init__(self, wanted: str) -> None:
        found = _WANTED.fullmatch(wanted)
        if found is None or found["name"] not in POINTS:
            raise ValueError(f"{VARIABLE}={wanted!r}: expected NAME, NAME:COUNT or NAME!, one of {', '.join(POINTS)}")
        self.name = found["name"]
        self._left = int(found["count"] or 1)
        self._raises = bool(found["raises"])
        self._lock = threading.Lock()

    def reached(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left != 0:
                return
        if self._raises:
            raise Fault(self.name)
        os._exit(EXIT_CODE)


_armed = _Armed(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None


def point(name: str) -> None:
    """Does nothing, unless a test wants the process to die here."""
    if _armed is not None and _armed.name == name:
        _armed.reached()


def arm(wanted: str | None) -> None:
    """What the variable does at start, for tests within one process; None disarms."""
    global _armed
    _armed = None if wanted is None else _Armed(wanted)
