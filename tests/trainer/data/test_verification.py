"""What `glimpse datasets verify` finds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.trainer.data.trees import folders, market, nested, occluded_duke_source, unsplit_folders, write
from trainer.data.listing import DatasetError
from trainer.data.verification import verify


def test_a_sound_set_of_ones_own_passes(tmp_path: Path) -> None:
    found = verify(f"folder:{folders(tmp_path)}", decode=True)
    assert found.passed
    assert {part: findings.images for part, findings in found.parts.items()} == {"train": 4, "query": 4, "gallery": 6}
    assert found.checked == 14
    assert found.copies.files == 0
    json.dumps(found.to_dict())


def test_wrong_counts_fail(tmp_path: Path) -> None:
    found = verify(f"market1501:{market(tmp_path)}")
    assert not found.passed
    assert not found.unreadable
    assert found.parts["gallery"].people == 6  # person 0 is nobody


def test_unreadable_files_are_named_with_the_reason(tmp_path: Path) -> None:
    root = folders(tmp_path)
    (root / "query/ann/query1.webp").write_bytes(b"")
    image = root / "train/dan/train1.webp"
    image.write_bytes(image.read_bytes()[:40])
    found = verify(f"folder:{root}")
    assert not found.passed
    assert set(found.unreadable) == {"query/ann/query1.webp", "train/dan/train1.webp"}
    assert "empty" in found.unreadable["query/ann/query1.webp"]


def test_copies_are_told_apart_by_what_they_spoil(tmp_path: Path) -> None:
    root = folders(tmp_path)
    shutil.copy(root / "train/dan/train1.webp", root / "gallery/ann/leak.webp")
    shutil.copy(root / "query/ann/query1.webp", root / "gallery/bob/wrong.webp")
    shutil.copy(root / "gallery/cid/gallery1.webp", root / "gallery/cid/again.webp")
    copies = verify(f"folder:{root}").copies
    assert (copies.files, len(copies.groups), copies.across, copies.labelled_apart) == (3, 3, 1, 1)
    assert ("gallery/cid/again.webp", "gallery/cid/gallery1.webp") in {tuple(sorted(g)) for g in copies.groups}


def test_an_image_that_is_query_and_gallery_at_once_is_one_file(tmp_path: Path) -> None:
    found = verify(f"folder:{unsplit_folders(tmp_path)}")
    assert found.checked == 6
    assert found.copies.files == 0
    virtual = verify(f"occluded-duke:{occluded_duke_source(tmp_path / 'duke')}")
    assert virtual.copies.files == 0


def test_black_images_are_found_by_decoding(tmp_path: Path) -> None:
    root = folders(tmp_path)
    write(root / "gallery/ann/night.png", 0)
    assert verify(f"folder:{root}").black == ()
    assert verify(f"folder:{root}", decode=True).black == ("gallery/ann/night.png",)


def test_people_that_teach_nothing_are_counted(tmp_path: Path) -> None:
    root = unsplit_folders(tmp_path)
    (root / "ann/c2_x.png").unlink()
    write(root / "bob/c1_y.png")
    (root / "bob/c2_x.png").unlink()
    found = verify(f"folder:{root}")
    assert (found.parts["train"].single, found.parts["train"].one_camera) == (1, 1)
    assert found.skipped == 3  # ann's and bob's images have no positive by another camera


def test_a_missing_part_fails_and_the_other_is_verified(tmp_path: Path) -> None:
    root = market(tmp_path)
    shutil.rmtree(root / "bounding_box_train")
    found = verify(f"market1501:{root}")
    assert not found.passed
    assert "expected a folder bounding_box_train" in found.missing["training part"]
    assert set(found.parts) == {"query", "gallery"}


def test_a_half_split_is_no_training_part_unless_it_is_asked_for(tmp_path: Path) -> None:
    root = nested("Occluded_REID", ".tif")(tmp_path)
    assert set(verify(f"occluded-reid:{root}").parts) == {"query", "gallery"}
    assert verify(f"occluded-reid:{root}").missing == {}
    assert set(verify(f"occluded-reid:{root}@split=1").parts) == {"train", "query", "gallery"}


@pytest.mark.parametrize("name", ["market1501:nowhere", "nothing:here", "market1501"])
def test_what_cannot_be_listed_at_all_is_an_error(name: str) -> None:
    with pytest.raises(DatasetError):
        verify(name)


def test_progress_is_told_once_a_file(tmp_path: Path) -> None:
    told: list[int] = []
    verify(f"folder:{folders(tmp_path)}", progress=lambda total: lambda: told.append(total))
    assert told == [14] * 14
