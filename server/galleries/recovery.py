"""`recover`: a data folder whose store is damaged begins anew from the snapshots in it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from server.errors import ServerError
from server.galleries.backup import BackupError, read_facts
from server.galleries.backups import FOLDER, SUFFIX
from server.galleries.catalog import Catalog
from server.galleries.database import ASIDE, FILE, StoreError

_STORE = (FILE, f"{FILE}-wal", f"{FILE}-shm", "segments", "audit")


class RecoveryError(Exception):
    """Nothing was done, or not all; the sentence says what."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was done."""

    aside: str
    """The folder, within the data folder, that the damaged files are in now."""
    galleries: tuple[tuple[str, str, int], ...]
    """Snapshot, gallery, items."""
    refused: tuple[tuple[str, str], ...]
    """Snapshot, and why it could not be restored."""


def recover(data: Path, names: Sequence[str]) -> Recovery:
    """Puts a damaged store aside, makes a new one, and restores snapshots into it.

    Args:
        names: which snapshots; empty for the newest of each gallery.

    Raises:
        RecoveryError: the store is not damaged, is in use, or there is no snapshot.
    """
    if not (data / FILE).is_file():
        raise RecoveryError(f"{data} holds no store")
    chosen = names or _newest(data)
    if not chosen:
        raise RecoveryError(f"{data / FOLDER} holds no snapshot that can be read; nothing was done")
    try:
        Catalog.open(data).close()
    except StoreError as error:
        if "is damaged" not in str(error):
            raise RecoveryError(str(error)) from error
    else:
        raise RecoveryError(
            f"the store of {data} is sound: nothing was done. Start the server, and use `glimpse snapshot restore`"
        )
    aside = data / f"{ASIDE}{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    aside.mkdir(mode=0o700)
    for name in _STORE:
        if (data / name).exists():
            (data / name).rename(aside / name)
    galleries, refused = [], []
    with closing(Catalog.open(data)) as catalog:
        for name in chosen:
            try:
                done = catalog.custody.restore(name, "", replace=False, served=None)
            except ServerError as error:
                refused.append((name, error.message))
            else:
                galleries.append((name, done.gallery.settings.name, done.items))
    return Recovery(aside.name, tuple(galleries), tuple(refused))


def _newest(data: Path) -> list[str]:
    """The newest readable snapshot of each gallery."""
    newest: dict[str, tuple[int, str]] = {}
    for path in (data / FOLDER).glob(f"*{SUFFIX}"):
        try:
            facts = read_facts(path)
        except BackupError:
            continue
        found = (facts.created_at_us, path.name.removesuffix(SUFFIX))
        newest[facts.gallery] = max(newest.get(facts.gallery, found), found)
    return sorted(name for _, name in newest.values())
