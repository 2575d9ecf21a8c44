"""Damage to every derived file of a data folder: flipped bits, cut files, strays. ``python -m tests.crash.damage``.

Segments are rebuilt from the truth; snapshots and sealed segments of the audit trail are refused by name. Whatever is
done to them, searches and items are what they were.
"""

from __future__ import annotations

import argparse
import math
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.errors import FailedPrecondition
from server.galleries.catalog import Catalog
from server.galleries.choosing import Order
from server.galleries.ranking import SearchOptions
from server.galleries.segments import container
from server.galleries.segments.container import Container
from server.security import audit
from server.security.query import Question, ask
from server.security.segments import seal, sweep
from server.security.verification import verify_folder
from tests.crash.operations import contents, opened
from tests.server.galleries.generated import SCHEMA, gallery_settings, random_features
from tests.server.galleries.traces import marked

FOLDERS = ("segments", "snapshots", "audit")
STRAYS = ("{}.tmp", "{}.new", "x-{}", ".{}")
QUERIES = random_features(np.random.default_rng(3), SCHEMA, 3)


@dataclass
class Damage:
    """What was done to how many files, and what came of it."""

    files: Counter[str] = field(default_factory=Counter)
    flipped: int = 0
    cut: int = 0
    strays: int = 0
    rebuilt: int = 0
    refused: int = 0
    harmless: int = 0
    """Bits of no meaning: behind the header of a segment."""
    wrong: list[str] = field(default_factory=list)

    def describe(self) -> str:
        files = ", ".join(f"{count} in {folder}/" for folder, count in sorted(self.files.items()))
        return (
            f"{files}: {self.flipped} bits flipped, {self.cut} cuts, {self.strays} strays: {self.rebuilt} rebuilt, "
            f"{self.refused} refused by name, {self.harmless} harmless, {len(self.wrong)} wrong answers"
            + "".join(f"; {each}" for each in self.wrong[:3])
        )


def prepare(folder: Path) -> None:
    """A gallery with int8 and two-bit codes in sealed segments, two snapshots, two sealed segments of the trail."""
    chance = np.random.default_rng(0)
    with closing(opened(folder)) as catalog:
        gallery = catalog.create(gallery_settings(keep_images=True, compact=True))
        items = [marked(f"item-{n:03}", chance, person=f"person-{n % 30}") for n in range(95)]
        for number, start in enumerate(range(0, 95, 5)):
            with audit.acting("GalleryService/Upsert", "lobby"):
                gallery.upsert(items[start : start + 5])
            if number == 9:
                catalog.custody.back_up("lobby", "early")
                seal(catalog.database, everything=True)
        catalog.drain()
        catalog.custody.back_up("lobby", "late")
        seal(catalog.database, everything=True)


def answers(catalog: Catalog) -> Any:
    """Every item, and every ranking with its distances, exact and by codes."""
    gallery = catalog.get("lobby")
    rankings = []
    for number in range(len(QUERIES)):
        for mode in ("exact", "fast"):
            options = SearchOptions(top_k=5 if mode == "fast" else None, include_incomparable=True, mode=mode)  # type: ignore[arg-type]
            found = gallery.search(QUERIES[number : number + 1], options)
            distances = np.nan_to_num(found.distance, nan=9).round(5).tolist()
            rankings.append(list(zip(found.item_ids(), distances, strict=True)))
    return contents(gallery), rankings


def meaningful(path: Path) -> list[range]:
    """The places of a file that are not padding, which is most of a segment as small as these."""
    if path.suffix != ".seg":
        return [range(path.stat().st_size)]
    file = Container(path)
    found = [range(container.ALIGNMENT)]
    for name in file.names:
        dtype, shape, offset = file.place(name)
        if size := dtype.itemsize * math.prod(shape):
            found.append(range(offset, offset + size))
    return found


def damaged(
    content: bytes, places: Sequence[range], flips: int, cuts: int, chance: random.Random
) -> Iterator[tuple[str, bytes]]:
    """The file with single bits flipped, as often in each of the stretches, and cut off at places that include its
    ends."""
    for number in range(flips):
        place, bit = chance.choice(places[number % len(places)]), chance.randrange(8)
        flipped = bytearray(content)
        flipped[place] ^= 1 << bit
        yield f"bit {bit} of byte {place} flipped", bytes(flipped)
    ends = (0, len(content) - 1, 1, len(content) // 2)
    for size in [*ends, *(chance.randrange(len(content)) for _ in range(cuts))][:cuts]:
        yield f"cut to {size} bytes", content[:size]


def hurt(folder: Path, flips: int, cuts: int, seed: int = 0) -> Damage:
    """Damages each derived file so many times and looks at what the store answers."""
    chance = random.Random(seed)
    sound = folder / "sound"
    prepare(sound)
    data = Path(shutil.copytree(sound, folder / "data"))
    with closing(opened(data)) as catalog:
        expected = answers(catalog)
    done = Damage()
    for kind in FOLDERS:
        for path in sorted((data / kind).iterdir()):
            done.files[kind] += 1
            content = path.read_bytes()
            for what, bad in damaged(content, meaningful(path), flips, cuts, chance):
                done.flipped += "flipped" in what
                done.cut += "cut" in what
                path.write_bytes(bad)
                try:
                    _LOOK[kind](data, path, content, expected, done)
                except (Exception, pytest.fail.Exception) as error:  # whatever it is, it is no answer
                    done.wrong.append(f"{path.name}, {what}: {error!r}")
                shutil.rmtree(data / kind)
                shutil.copytree(sound / kind, data / kind)
    _strays(data, sound, expected, done)
    return done


def _segment(data: Path, path: Path, content: bytes, expected: Any, done: Damage) -> None:
    """Answers as before, from the file if the bit means nothing, else from one that is made anew."""
    with closing(opened(data)) as catalog:
        assert answers(catalog) == expected, "a wrong answer"
        catalog.drain()
        assert answers(catalog) == expected, "a wrong answer after sealing"
    if path.exists() and abs(path.stat().st_size - len(content)) == 0 and _differs(path, content) == 1:
        done.harmless += 1
    else:
        done.rebuilt += 1


def _differs(path: Path, content: bytes) -> int:
    found = np.frombuffer(path.read_bytes(), np.uint8)
    return int(np.count_nonzero(found != np.frombuffer(content, np.uint8)))


def _snapshot(data: Path, path: Path, content: bytes, expected: Any, done: Damage) -> None:
    """Neither restored nor passed over by an erasure; the live gallery untouched."""
    name = path.name.removesuffix(".snapshot")
    with closing(opened(data)) as catalog:
        for act in (
            lambda: catalog.custody.restore(name, "lobby", replace=True, served=None),
            lambda: catalog.custody.erase(Order("lobby", item_ids=("item-001",))),
        ):
            with pytest.raises(FailedPrecondition, match=f"snapshot {name!r} cannot be"):
                act()
        assert len(catalog.custody.backups()) == 2
        assert answers(catalog) == expected, "the live gallery was touched"
    done.refused += 1


def _trail(data: Path, path: Path, content: bytes, expected: Any, done: Damage) -> None:
    """Named by the verification; questions that need it are refused; searches go on."""
    assert path.name in verify_folder(data).problem, "not found by the verification"
    with closing(opened(data)) as catalog:
        with pytest.raises(FailedPrecondition, match=path.name):
            ask(catalog.database, Question(), 0, 100)
        assert answers(catalog) == expected
    done.refused += 1


_LOOK = {"segments": _segment, "snapshots": _snapshot, "audit": _trail}


def _strays(data: Path, sound: Path, expected: Any, done: Damage) -> None:
    """Half a file under names that a killed process, or a person, may leave beside each derived file."""
    for kind in FOLDERS:
        for path in sorted((sound / kind).iterdir()):
            content = path.read_bytes()
            for pattern in STRAYS:
                (data / kind / pattern.format(path.name)).write_bytes(content[: len(content) // 2])
                done.strays += 1
    try:
        with closing(opened(data)) as catalog:
            # Half a snapshot is a damaged one, whatever it is called: nobody is erased until it is deleted.
            assert len(catalog.custody.backups()) == 6
            with pytest.raises(FailedPrecondition, match=r"delete the file snapshots/\.early\.snapshot"):
                catalog.custody.erase(Order("lobby", item_ids=("item-001",)))
        for path in [*(data / "snapshots").glob("x-*"), *(data / "snapshots").glob(".*")]:
            path.unlink()
        with closing(opened(data)) as catalog:
            sweep(catalog.database)
            assert answers(catalog) == expected, "a wrong answer"
            assert [each.name for each in catalog.custody.backups()] == ["early", "late"]
            assert catalog.custody.erase(Order("lobby", item_ids=("item-001",))).erased == {"lobby": 1}
            again = catalog.custody.restore("early", "again", replace=False, served=None).gallery
            assert again.snapshot.row_of("item-001") is None
            assert again.snapshot.row_of("item-002") is not None
        assert verify_folder(data).problem == ""
        assert not list(data.rglob("*.tmp")), "unfinished files were left"
    except (Exception, pytest.fail.Exception) as error:  # as above
        done.wrong.append(f"strays: {error!r}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=200, help="bits flipped in each file (200)")
    parser.add_argument("--cuts", type=int, default=50, help="places at which each file is cut off (50)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        done = hurt(Path(folder), arguments.flips, arguments.cuts)
    print(done.describe())
    return 1 if done.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
