"""Anyone's own data: folders and CSV files, and what can be wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainer.data.trees import fill, folders, table, unsplit_folders
from trainer.data import find_listing, find_training
from trainer.data.listing import DatasetError


def test_a_folder_of_training_people_is_not_evaluated(tmp_path: Path) -> None:
    root = folders(tmp_path)
    listing, training = find_listing(f"folder:{root}"), find_training(f"folder:{root}")
    assert {name.split("/")[0] for name in training.images.ids} == {"train"}
    assert sorted(set(training.images.people)) == [1, 2]
    assert listing.query.people.tolist() == [1, 1, 2, 2]
    assert listing.gallery.people.tolist() == [1, 1, 2, 2, 3, 3]


def test_queries_and_gallery_alone_are_no_training_part(tmp_path: Path) -> None:
    root = fill(tmp_path, ["query/ann/1.png", "gallery/ann/2.png"])
    with pytest.raises(DatasetError, match="no folder train: it has no training part"):
        find_training(f"folder:{root}")


def test_people_of_a_folder_train_and_are_evaluated_where_it_has_no_parts(tmp_path: Path) -> None:
    root = unsplit_folders(tmp_path)
    assert find_training(f"folder:{root}").images.ids == find_listing(f"folder:{root}").query.ids
    assert sorted(set(find_training(f"folder:{root}").images.cameras)) == [1, 2]


def test_a_gallery_of_strangers_is_an_error(tmp_path: Path) -> None:
    root = fill(tmp_path, ["query/ann/1.png", "gallery/bob/2.png"])
    with pytest.raises(DatasetError, match="none of the 1 queries has an image of its person"):
        find_listing(f"folder:{root}")


def test_one_camera_for_everything_is_an_error(tmp_path: Path) -> None:
    root = fill(tmp_path, ["query/ann/c1_1.png", "gallery/ann/c1_2.png"])
    with pytest.raises(DatasetError, match="not by its own camera"):
        find_listing(f"folder:{root}")


def test_training_on_one_person_is_an_error(tmp_path: Path) -> None:
    root = fill(tmp_path, ["ann/1.png", "ann/2.png"])
    with pytest.raises(DatasetError, match="images of at least 2 people, got 2 images of 1"):
        find_training(f"folder:{root}")


def test_people_with_one_image_or_one_camera_are_counted(tmp_path: Path) -> None:
    root = fill(tmp_path, ["ann/c1_1.png", "bob/c1_1.png", "bob/c1_2.png", "cid/c1_1.png", "cid/c2_1.png"])
    facts = find_training(f"folder:{root}").facts
    assert "1 people have a single image, 1 further people only one camera" in facts


def test_a_csv_gives_people_cameras_and_parts(tmp_path: Path) -> None:
    path = table(tmp_path)
    listing, training = find_listing(f"csv:{path}"), find_training(f"csv:{path}")
    assert listing.query.ids == ("images/0.png", "images/2.png")
    assert listing.gallery.ids == ("images/1.png", "images/3.png")
    assert listing.query.people.tolist() == listing.gallery.people.tolist() == [1, 2]
    assert set(listing.query.cameras).isdisjoint(listing.gallery.cameras)
    assert any("1 images of person -1 dropped" in fact for fact in listing.facts)
    assert training.images.people.tolist() == [3, 3, 4]


def csv(root: Path, text: str) -> Path:
    fill(root, ["a.png", "b.png", "c.png"])
    (root / "mine.csv").write_text(text)
    return root / "mine.csv"


def test_a_csv_without_cameras_leaves_out_the_query_alone(tmp_path: Path) -> None:
    path = csv(tmp_path, "path,person\na.png,ann\nb.png,ann\nc.png,bob\n")
    listing = find_listing(f"csv:{path}")
    assert listing.query.ids == listing.gallery.ids == ("a.png", "b.png", "c.png")
    assert len(set(listing.gallery.cameras)) == 3
    assert any("1 queries have no positive" in fact for fact in listing.facts)
    assert len(find_training(f"csv:{path}").images) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,person\na.png,ann\n", r"column 'path' is missing, there are \['file', 'person'\]"),
        ("path,person\n", "has no rows"),
        ("path,person\na.png,\n", "line 2: person is empty"),
        ("path,person\na.png,ann\nlost.png,bob\n", r"line 3: there is no image .*lost\.png"),
        ("path,person,camera\na.png,ann,1\nb.png,ann,\n", "line 3: camera is empty"),
        ("path,person,split\na.png,ann,test\n", r"line 2: split must be one of .* got 'test'"),
        ("path,person\na.png,ann\na.png,ann\n", "names 1 images more than once"),
        ("path,person,split\na.png,ann,query\nb.png,bob,query\n", "the gallery is empty"),
    ],
)
def test_a_broken_csv_says_where(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=message):
        find_listing(f"csv:{csv(tmp_path, text)}")


def test_a_csv_without_training_rows_has_no_training_part(tmp_path: Path) -> None:
    path = csv(tmp_path, "path,person,split\na.png,ann,query\nb.png,ann,gallery\n")
    with pytest.raises(DatasetError, match="no row of split 'train'"):
        find_training(f"csv:{path}")
