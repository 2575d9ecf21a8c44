"""The short form of the damage to derived files; ``python -m tests.crash.damage`` is the long one."""

from __future__ import annotations

import random
from pathlib import Path

from tests.crash.damage import FOLDERS, damaged, hurt


def test_damaged_derived_files_are_rebuilt_or_refused_and_never_answer_wrongly(tmp_path: Path) -> None:
    done = hurt(tmp_path, flips=24, cuts=4)
    assert done.wrong == []
    assert all(done.files[folder] >= 2 for folder in FOLDERS)
    files = sum(done.files.values())
    assert (done.flipped, done.cut) == (24 * files, 4 * files)
    assert done.rebuilt >= 2 * 24
    assert done.refused == 4 * 28
    assert done.rebuilt + done.harmless + done.refused == 28 * files
    assert done.strays >= 4 * files


def test_damage_is_what_it_says() -> None:
    content = bytes(range(100))
    found = [bad for _, bad in damaged(content, [range(50), range(60, 100)], 20, 10, random.Random(0))]
    assert len(found) == 30
    assert all(bad[50:60] == content[50:60] for bad in found[:20])
    assert all(len(bad) == 100 and sum(a != b for a, b in zip(bad, content, strict=True)) == 1 for bad in found[:20])
    assert all(bad == content[: len(bad)] and len(bad) < 100 for bad in found[20:])
