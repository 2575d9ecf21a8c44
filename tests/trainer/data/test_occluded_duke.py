"""Occluded-DukeMTMC: its lists, and its conversion from a folder and a zip."""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path

import pytest

from tests.trainer.data.trees import fill, market, occluded_duke_names, occluded_duke_source, write
from trainer.data import find_listing, find_training
from trainer.data.listing import DatasetError
from trainer.data.occluded_duke import conversion
from trainer.data.occluded_duke.conversion import convert
from trainer.data.occluded_duke.lists import LISTS, PARTS, check_list, read_list

NAMES = occluded_duke_names()


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent))
            archive.writestr(f"__MACOSX/{file.relative_to(folder.parent)}", b"clutter")
    return path


def test_the_lists_are_those_that_were_published() -> None:
    lists = {part: read_list(part) for part in LISTS}
    assert {part: len(names) for part, names in lists.items()} == {"train": 15_618, "gallery": 17_661, "query": 2_210}
    people = {part: {name[:4] for name in names} for part, names in lists.items()}
    assert {part: len(some) for part, some in people.items()} == {"train": 702, "gallery": 1_110, "query": 519}
    assert not people["train"] & people["gallery"]
    assert people["query"] <= people["gallery"]
    assert len(set(lists["query"]) & set(lists["gallery"])) == 1_870
    gallery = {(name[:4], name[6]) for name in lists["gallery"]}
    assert all(any((name[:4], c) in gallery for c in "12345678" if c != name[6]) for name in lists["query"])


def test_a_changed_list_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"query\.list has SHA-256"):
        check_list("query", "\n".join(read_list("query")[1:]).encode())


def test_images_are_found_in_the_source_without_a_conversion(tmp_path: Path) -> None:
    root = occluded_duke_source(tmp_path)
    listing = find_listing(f"occluded-duke:{root}")
    first, *moved = NAMES["query"]
    assert set(listing.query.ids) == {f"query/{first}", *(f"bounding_box_test/{name}" for name in moved)}
    assert "bounding_box_test/0001_c1_f0000009.jpg" not in listing.gallery.ids
    assert [f"{p:04d}" for p in listing.query.people] == [name[-20:-16] for name in listing.query.ids]
    expected = re.compile(r"query: 8 images of \d people; not the whole set: expected 2,210 of 519")
    assert any(map(expected.fullmatch, listing.facts))


@pytest.mark.parametrize("mode", ["copy", "link"])
def test_a_conversion_of_a_folder_holds_the_same_images(mode: conversion.Mode, tmp_path: Path) -> None:
    source, target = occluded_duke_source(tmp_path / "from"), tmp_path / "to" / "Occluded_Duke"
    target.parent.mkdir()
    steps: list[None] = []
    made = convert(source, target, mode, lists=NAMES, progress=lambda: steps.append(None))
    assert made.images == {part: len(names) for part, names in NAMES.items()}
    assert made.moved == {"train": 0, "gallery": 0, "query": 7}
    assert len(steps) == sum(made.images.values())
    for part, folder in PARTS.items():
        assert sorted(path.name for path in (target / folder).iterdir()) == sorted(NAMES[part])
    virtual, real = find_listing(f"occluded-duke:{source}"), find_listing(f"occluded-duke:{target}")
    for mine, theirs in ((virtual.query, real.query), (virtual.gallery, real.gallery)):
        assert mine.paths is not None
        assert theirs.paths is not None
        assert [path.read_bytes() for path in mine.paths] == [path.read_bytes() for path in theirs.paths]
    image = target / "query" / NAMES["query"][0]
    assert (image.stat().st_nlink > 1) == (mode == "link")
    assert made.written == ("hard-linked" if mode == "link" else "copied")


def test_a_link_to_another_disk_is_symbolic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other_disk(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", other_disk)
    made = convert(occluded_duke_source(tmp_path), tmp_path / "to", "link", lists=NAMES)
    assert made.written == "linked"
    assert (tmp_path / "to" / "query" / NAMES["query"][0]).is_symlink()
    assert len(find_training(f"occluded-duke:{tmp_path / 'to'}").images) == len(NAMES["train"])


def test_a_conversion_of_a_zip_of_any_name_holds_the_same_images(tmp_path: Path) -> None:
    source = occluded_duke_source(tmp_path)
    archive = zipped(source, tmp_path / "duke (1).zip")
    made = convert(archive, tmp_path / "to", "copy", lists=NAMES)
    assert made.moved["query"] == 7
    name = NAMES["query"][3]
    written = tmp_path / "to" / "query" / name
    assert written.read_bytes() == (source / "bounding_box_test" / name).read_bytes()


def test_mode_list_checks_everything_and_writes_nothing(tmp_path: Path) -> None:
    source = occluded_duke_source(tmp_path / "from")
    made = convert(source, None, "list", lists=NAMES)
    assert made.written == ""
    assert made.images["query"] == 8
    assert [path.name for path in tmp_path.iterdir()] == ["from"]


def test_the_published_lists_are_converted_from_a_whole_source(tmp_path: Path) -> None:
    """33,000 names of a zip as large as the original, with nothing inside the files."""
    archive = tmp_path / "DukeMTMC-reID.zip"
    searched = set(read_list("gallery"))
    own = [name for name in read_list("query") if name not in searched]
    with zipfile.ZipFile(archive, "w") as out:
        for folder, names in (
            ("bounding_box_train", read_list("train")),
            ("bounding_box_test", read_list("gallery")),
            ("query", own),
        ):
            for name in names:
                out.writestr(f"DukeMTMC-reID/{folder}/{name}", b"")
    made = convert(archive, None, "list")
    assert made.images == {"train": 15_618, "gallery": 17_661, "query": 2_210}
    assert made.moved == {"train": 0, "gallery": 0, "query": 1_870}


def test_a_source_that_lacks_an_image_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    source = occluded_duke_source(tmp_path / "from")
    lost = NAMES["train"][2]
    (source / "bounding_box_train" / lost).unlink()
    with pytest.raises(DatasetError, match=f"lacks 1 of the 15 images of the train list, the first is {lost}"):
        convert(source, tmp_path / "to", "copy", lists=NAMES)
    assert not (tmp_path / "to").exists()


def test_a_conversion_that_is_interrupted_leaves_nothing(tmp_path: Path) -> None:
    source, left = occluded_duke_source(tmp_path / "from"), [5]

    def stop() -> None:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "to", "copy", lists=NAMES, progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["from"]


@pytest.mark.parametrize(
    ("make", "mode", "message"),
    [
        (lambda folder: folder / "nothing.zip", "copy", "there is no such folder"),
        (lambda folder: market(folder), "copy", "bounding_box_test"),
        (lambda folder: write(folder / "image.png"), "copy", "neither a folder nor a zip"),
        (lambda folder: zipped(fill(folder / "x", ["y/1.png"]), folder / "x.zip"), "copy", "no zip of DukeMTMC-reID"),
        (lambda folder: zipped(occluded_duke_source(folder), folder / "duke.zip"), "link", "nothing can link into"),
    ],
)
def test_a_wrong_source_is_refused(make, mode: conversion.Mode, message: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=message):
        convert(make(tmp_path), tmp_path / "to", mode)
    assert not (tmp_path / "to").exists()


def test_a_target_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    source = occluded_duke_source(tmp_path / "from")
    keep = write(tmp_path / "to" / "mine.png")
    with pytest.raises(DatasetError, match="is not empty"):
        convert(source, tmp_path / "to", "copy", lists=NAMES)
    assert keep.is_file()


def test_a_damaged_image_in_a_zip_is_named(tmp_path: Path) -> None:
    archive = zipped(occluded_duke_source(tmp_path / "from"), tmp_path / "duke.zip")
    name = NAMES["train"][0]
    data = bytearray(archive.read_bytes())
    place = data.index(f"DukeMTMC-reID/bounding_box_train/{name}".encode())
    data[place + 90] ^= 255
    archive.write_bytes(data)
    with pytest.raises(DatasetError, match=f"bounding_box_train/{name} is damaged"):
        convert(archive, tmp_path / "to", "copy", lists=NAMES)
    assert not (tmp_path / "to").exists()
