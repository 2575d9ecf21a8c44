"""Market-1501's layout and MSMT17's lists: what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.trainer.data.trees import PEOPLE, cuhk03, fill, market, msmt17
from trainer.data import find_listing, find_training
from trainer.data.card import Card, Count
from trainer.data.listing import DatasetError, ImageSet, joined

V1 = msmt17("MSMT17_V1", "train", "test")


def test_market1501_trains_on_its_own_part_alone(tmp_path: Path) -> None:
    training = find_training(f"market1501:{market(tmp_path)}")
    assert training.images.people.tolist() == [7, 7, 9, 9]
    assert training.images.cameras.tolist() == [1, 2, 1, 2]
    assert training.facts[0] == "train: 4 images of 2 people; not the whole set: expected 12,936 of 751"


def test_a_missing_part_is_named_and_the_other_still_works(tmp_path: Path) -> None:
    root = market(tmp_path)
    for path in (root / "bounding_box_train").iterdir():
        path.unlink()
    (root / "bounding_box_train").rmdir()
    with pytest.raises(DatasetError, match=r"Market-1501-v15.09.15: expected a folder bounding_box_train"):
        find_training(f"market1501:{tmp_path}")
    assert len(find_listing(f"market1501:{tmp_path}").query) == 6


def test_a_part_without_images_is_named(tmp_path: Path) -> None:
    root = market(tmp_path)
    for path in (root / "query").glob("*.jpg"):
        path.unlink()
    with pytest.raises(DatasetError, match="query holds no images"):
        find_listing(f"market1501:{root}")


def test_the_two_kinds_of_cuhk03_are_not_mixed_up(tmp_path: Path) -> None:
    root = cuhk03(tmp_path)
    assert len(find_listing(f"cuhk03-labeled:{root / 'labeled'}").query) == len(PEOPLE)
    with pytest.raises(DatasetError, match="which is the other kind's folder"):
        find_listing(f"cuhk03-labeled:{root / 'detected'}")


def test_msmt17_counts_people_from_0_and_reads_cameras_from_its_names(tmp_path: Path) -> None:
    root = V1(tmp_path)
    listing, training = find_listing(f"msmt17:{root}"), find_training(f"msmt17:{root}")
    assert listing.query.people.tolist() == [0, 1, 2, 3]
    assert set(listing.query.cameras) == {3}
    assert set(listing.gallery.cameras) == {4}
    assert sorted(set(training.images.cameras)) == [1, 2]
    assert len(training.images) == 8


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("list_query.txt", "0000/0000_000.jpg 0\n", "list_query.txt, line 1: .*expected a line like"),
        ("list_query.txt", "0000/0000_000_03_x.jpg zero\n", "list_query.txt, line 1"),
        ("list_gallery.txt", "0000/0000_000_09_lost.jpg 0\n", "1 of the 1 images that list_gallery.txt name are miss"),
        ("list_gallery.txt", None, "list_gallery.txt is missing"),
        ("list_gallery.txt", "\n", "the gallery is empty"),
    ],
)
def test_a_broken_list_of_msmt17_says_where(name: str, text: str | None, message: str, tmp_path: Path) -> None:
    root = V1(tmp_path)
    if text is None:
        (root / name).unlink()
    else:
        (root / name).write_text(text)
    with pytest.raises(DatasetError, match=message):
        find_listing(f"msmt17:{root}")


def drawn(people: list[int], cameras: list[int]) -> ImageSet:
    ids = tuple(f"{i}" for i in range(len(people)))
    return ImageSet(ids, np.array(people), np.array(cameras), lambda i: np.full((2, 2, 3), people[i], np.uint8))


CARD = Card("tiny", "here", "ours", "a protocol", "a layout", {"query": Count(3, 2), "gallery": Count(3, 2)}, 0)


def test_facts_count_people_without_distractors_and_queries_without_positives() -> None:
    listing = CARD.listing("tiny", drawn([1, 2, 2], [1, 1, 2]), drawn([1, 2, 0], [2, 2, 3]), "more")
    assert listing.facts == (
        "query: 3 images of 2 people, as expected",
        "gallery: 3 images of 2 people, as expected",
        "1 queries have no positive left in the gallery and are skipped",
        "a protocol",
        "more",
    )


def test_an_empty_side_is_an_error() -> None:
    with pytest.raises(DatasetError, match="tiny: the gallery is empty"):
        CARD.listing("tiny", drawn([1], [1]), drawn([], []))


def test_junk_is_no_training_image() -> None:
    training = CARD.training("tiny", drawn([-1, 4, 4, 6], [1, 1, 2, 1]))
    assert training.images.people.tolist() == [4, 4, 6]
    assert "1 junk images left out" in training.facts


def test_joined_sets_load_from_both() -> None:
    both = joined((drawn([1, 2], [1, 1]), drawn([3], [2]).take(np.array([0]))))
    assert [int(both.load(i)[0, 0, 0]) for i in range(3)] == [1, 2, 3]
    assert both.take(np.array([2, 0])).people.tolist() == [3, 1]
    assert int(both.take(np.array([2, 0])).load(0)[0, 0, 0]) == 3


def test_hidden_files_and_other_suffixes_are_no_images(tmp_path: Path) -> None:
    root = fill(tmp_path, ["query/0001_c1s1_000001_01.jpg", "bounding_box_test/0001_c2s1_000001_01.jpg"])
    (root / "query" / "0001_c1s1_000002_01.jpg.txt").write_text("no image")
    (root / "query" / "0001_c1s1_000003_01.jpg").mkdir()
    assert len(find_listing(f"market1501:{root}").query) == 1
