"""Backups: made while writes go on, refused when they are not what was written, restored in one step."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glimpse.bundle import ModelIdentity
from server.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    ServerError,
    Unavailable,
)
from server.galleries import backup as backup_file
from server.galleries.catalog import Catalog
from server.galleries.database import FILE, StoreError
from server.galleries.filters import Filter
from server.galleries.gallery import Gallery
from server.galleries.recovery import RecoveryError, recover
from tests.server.galleries.generated import gallery_settings
from tests.server.galleries.test_store import contents, limit_pages, some_items

OURS = ModelIdentity("lite", "1.0.0", "ab" * 32)
OTHER = ModelIdentity("other", "9.9.9", "cd" * 32)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with closing(Catalog.open(tmp_path)) as catalog:
        yield catalog


def filled(catalog: Catalog, name: str = "lobby", **settings: Any) -> Gallery:
    gallery = catalog.create(gallery_settings(name=name, keep_images=True, model=OURS, **settings))
    for seed in range(3):
        gallery.upsert(
            some_items(seed, 300, person_id=f"p{seed}", attributes={"n": seed}, captured_at=seed, image=b"img%d" % seed)
        )
    gallery.update("1-3", camera_id="c9")
    gallery.delete(item_ids=["0-1", "2-7"])
    return gallery


def restored(catalog: Catalog, name: str, gallery: str = "", *, replace: bool = False) -> Gallery:
    return catalog.custody.restore(name, gallery, replace=replace, served=OURS).gallery


def test_a_restored_gallery_equals_the_one_that_was_backed_up(catalog: Catalog, tmp_path: Path) -> None:
    gallery = filled(catalog)
    before = contents(gallery)
    made = catalog.custody.back_up("lobby", "one")
    assert made.facts is not None
    assert (made.facts.items, made.facts.sequence) == (898, 5)
    assert (tmp_path / "snapshots" / "one.snapshot").stat().st_mode & 0o777 == 0o600
    again = restored(catalog, "one", "again")
    assert contents(again) == before
    assert again.sequence == 6
    assert again.settings.model == OURS
    gallery.delete(filter=Filter(person_ids=("p0",)))
    over = restored(catalog, "one", replace=True)
    assert contents(over) == before
    assert over.sequence > gallery.sequence
    with pytest.raises(NotFound, match="deleted or replaced"):
        gallery.upsert(some_items(9, 1))
    over.upsert(some_items(9, 1))
    assert catalog.get("lobby") is over
    catalog.close()
    with closing(Catalog.open(tmp_path)) as later:
        assert contents(later.get("again")) == before
        assert len(later.get("lobby")) == 899


def test_a_backup_is_of_one_write_while_others_go_on(catalog: Catalog) -> None:
    gallery = catalog.create(gallery_settings())
    gallery.upsert(some_items(0, 20))
    done = threading.Event()

    def write() -> None:
        for seed in range(1, 10_000):
            gallery.upsert(some_items(seed, 20))
            if done.is_set():
                return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        made = [catalog.custody.back_up("lobby", f"b{n}") for n in range(5)]
    finally:
        done.set()
        writer.join()
    for each in made:
        assert each.facts is not None
        assert each.facts.items == 20 * each.facts.sequence
        again = catalog.custody.restore(each.name, each.name, replace=False, served=None).gallery
        batches = {item.item_id.split("-")[0] for item in again.list(Filter(), "", 1_000_000)}
        assert batches == {str(seed) for seed in range(each.facts.sequence)}


def test_backups_are_listed_and_deleted(catalog: Catalog, tmp_path: Path) -> None:
    filled(catalog)
    assert catalog.custody.backups() == []
    named = catalog.custody.back_up("lobby")
    catalog.custody.back_up("lobby", "b")
    assert named.name.startswith("lobby-2")
    assert catalog.custody.backups() == [catalog.custody._backups._described(path) for path in _files(tmp_path)]
    assert {each.sha256 for each in catalog.custody.backups()} >= {named.sha256}
    with pytest.raises(AlreadyExists, match="'b' exists already"):
        catalog.custody.back_up("lobby", "b")
    catalog.custody.delete_backup("b")
    with pytest.raises(NotFound, match=f"no snapshot 'b'; there is '{named.name}'"):
        catalog.custody.delete_backup("b")
    (tmp_path / "snapshots" / "junk.snapshot").write_text("junk" * 30)
    assert [each.damage for each in catalog.custody.backups()] == ["it is no backup of a gallery", ""]


def _files(folder: Path) -> list[Path]:
    return sorted((folder / "snapshots").iterdir())


@pytest.mark.parametrize(
    "name", ["../lobby", "a/b", "/etc/passwd", ".hidden", "", "x" * 101, "a\nb", "a b", "ä", "..\\a"]
)
def test_names_cannot_leave_the_folder(catalog: Catalog, tmp_path: Path, name: str) -> None:
    filled(catalog)
    (tmp_path / "outside.snapshot").write_bytes(b"precious")
    for act in (
        lambda: catalog.custody.restore(name, "x", replace=False, served=None),
        lambda: catalog.custody.delete_backup(name),
        *([lambda: catalog.custody.back_up("lobby", name)] if name else []),
    ):
        with pytest.raises(InvalidArgument, match="snapshot name"):
            act()
    assert not (tmp_path / "snapshots").exists() or _files(tmp_path) == []
    assert (tmp_path / "outside.snapshot").read_bytes() == b"precious"


def test_a_link_out_of_the_folder_is_not_followed(catalog: Catalog, tmp_path: Path) -> None:
    filled(catalog)
    catalog.custody.back_up("lobby", "a")
    target = tmp_path / "elsewhere"
    (tmp_path / "snapshots" / "a.snapshot").rename(target)
    (tmp_path / "snapshots" / "a.snapshot").symlink_to(target)
    with pytest.raises(NotFound):
        catalog.custody.restore("a", "x", replace=False, served=None)


def test_flipped_bits_and_cut_files_are_refused_with_the_live_gallery_untouched(
    catalog: Catalog, tmp_path: Path
) -> None:
    gallery = filled(catalog)
    catalog.custody.back_up("lobby", "a")
    path = tmp_path / "snapshots" / "a.snapshot"
    sound = path.read_bytes()
    before, sequence = contents(gallery), gallery.sequence
    chance = np.random.default_rng(0)
    damaged = []
    for place in [0, 9, 12, *chance.integers(0, len(sound), 60).tolist(), len(sound) - 1]:
        flipped = bytearray(sound)
        flipped[place] ^= 1 << int(chance.integers(8))
        damaged.append(bytes(flipped))
    damaged += [sound[:size] for size in [0, 5, 40, 43, 44, *chance.integers(0, len(sound), 40).tolist()]]
    damaged += [sound + b"x", sound[:-32], sound + sound]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(FailedPrecondition, match="snapshot 'a' cannot be restored: "):
            restored(catalog, "a", replace=True)
    assert catalog.get("lobby") is gallery
    assert (contents(gallery), gallery.sequence) == (before, sequence)
    path.write_bytes(sound)
    assert contents(restored(catalog, "a", replace=True)) == before


def test_a_newer_format_and_a_false_header_are_refused_by_name(catalog: Catalog, tmp_path: Path) -> None:
    filled(catalog)
    catalog.custody.back_up("lobby", "a")
    path = tmp_path / "snapshots" / "a.snapshot"
    facts = backup_file.read_facts(path)
    said = {**{name: getattr(facts, name) for name in facts.__slots__}}
    for change, message in (
        ({"format": 2}, "format 2, newer than this Glimpse reads .1.; upgrade"),
        ({"items": "many"}, "header says what none can say"),
        ({"more": 1}, "header cannot be read"),
        ({"settings": "{}"}, "settings of its gallery cannot be read"),
        ({"gallery": "../up"}, "gallery name"),
        ({"items": facts.items + 1}, "other items than its header says"),
    ):
        _write_with_header(path, {**said, **change})
        with pytest.raises(ServerError, match=message):
            catalog.custody.restore("a", "", replace=True, served=None)


def _write_with_header(path: Path, said: dict[str, Any]) -> None:
    import hashlib
    import struct

    content = path.read_bytes()
    (length,) = struct.unpack_from("<I", content, 8)
    header = json.dumps(said).encode()
    body = content[:8] + struct.pack("<I", len(header)) + header + content[12 + length : -32]
    path.write_bytes(body + hashlib.sha256(body).digest())


def test_another_model_and_a_taken_name_are_refused(catalog: Catalog) -> None:
    gallery = filled(catalog)
    catalog.custody.back_up("lobby", "a")
    with pytest.raises(FailedPrecondition, match=r"lite 1\.0\.0.*this server runs other 9\.9\.9"):
        catalog.custody.restore("a", "x", replace=False, served=OTHER)
    with pytest.raises(AlreadyExists, match="restore under another name"):
        restored(catalog, "a")
    catalog.set_alias("front", "lobby")
    with pytest.raises(FailedPrecondition, match="'front' is an alias"):
        restored(catalog, "a", "front", replace=True)
    assert catalog.get("front") is gallery
    assert catalog.custody.restore("a", "x", replace=False, served=None).items == 898


def test_a_full_disk_leaves_no_half_backup_and_no_half_gallery(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = filled(catalog)
    catalog.custody.back_up("lobby", "a")
    before = contents(gallery)
    with catalog.database.read() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
    limit_pages(catalog, pages + 4)
    with pytest.raises(ResourceExhausted, match="disk is full"):
        restored(catalog, "a", replace=True)
    assert contents(catalog.get("lobby")) == before
    limit_pages(catalog, 1_000_000)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(backup_file.os, "fsync", full)
        with pytest.raises(ResourceExhausted, match="cannot be written just now"):
            catalog.custody.back_up("lobby", "b")
    assert [path.name for path in _files(tmp_path)] == ["a.snapshot"]
    assert contents(restored(catalog, "a", replace=True)) == before


def test_a_damaged_row_is_not_backed_up(catalog: Catalog, tmp_path: Path) -> None:
    filled(catalog)
    with catalog.database.write() as connection:
        connection.execute("UPDATE items SET person_id = 'someone else' WHERE item_id = '1-7'")
    with pytest.raises(Unavailable, match="item '1-7' differs from its checksum"):
        catalog.custody.back_up("lobby", "a")
    assert _files(tmp_path) == []


def test_aliases_are_moved_in_one_step_and_survive(catalog: Catalog, tmp_path: Path) -> None:
    one, two = filled(catalog, "one"), filled(catalog, "two")
    assert catalog.set_alias("front", "one") == ""
    assert catalog.get("front") is one
    assert catalog.set_alias("front", "two") == "one"
    assert catalog.get("front") is two
    with pytest.raises(AlreadyExists, match="'one' is a gallery"):
        catalog.set_alias("one", "two")
    with pytest.raises(AlreadyExists, match="'front' is an alias of gallery 'two'"):
        catalog.create(gallery_settings(name="front"))
    with pytest.raises(InvalidArgument, match="alias name"):
        catalog.set_alias("../x", "one")
    with pytest.raises(NotFound, match="no gallery 'three'"):
        catalog.set_alias("back", "three")
    with pytest.raises(FailedPrecondition, match="'two' is what 'front' stands for"):
        catalog.delete("two")
    with pytest.raises(FailedPrecondition, match="'front' is an alias"):
        catalog.delete("front")
    catalog.set_alias("back", "front")
    catalog.close()
    with closing(Catalog.open(tmp_path)) as again:
        assert dict(again.aliases.all()) == {"back": "two", "front": "two"}
        again.delete_alias("back")
        with pytest.raises(NotFound, match="no alias 'back'"):
            again.delete_alias("back")


def test_a_damaged_store_is_refused_and_begins_anew_from_its_backups(tmp_path: Path) -> None:
    with closing(Catalog.open(tmp_path)) as catalog:
        gallery = filled(catalog)
        catalog.custody.back_up("lobby", "older")
        gallery.delete(filter=Filter(person_ids=("p0",)))
        catalog.custody.back_up("lobby", "newer")
        expected = contents(gallery)
    with pytest.raises(RecoveryError, match="is sound: nothing was done"):
        recover(tmp_path, ())
    store = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(store[: len(store) // 2])
    with pytest.raises(StoreError, match=r"is damaged .*glimpse restore --data"):
        Catalog.open(tmp_path)
    recovery = recover(tmp_path, ())
    assert recovery.galleries == (("newer", "lobby", 599),)
    assert (tmp_path / recovery.aside / FILE).is_file()
    with closing(Catalog.open(tmp_path)) as catalog:
        assert contents(catalog.get("lobby")) == expected
    shutil.rmtree(tmp_path / recovery.aside)
    with pytest.raises(RecoveryError, match="holds no store"):
        recover(tmp_path / "nothing", ())
