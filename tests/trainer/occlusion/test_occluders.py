"""The occluder library: folders of crops, and drawn ones."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from glimpse.people import occluder_kinds
from trainer.occlusion import OccluderLibrary, SimulatorError


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    for name, size in (("b.png", (40, 10)), ("a.jpg", (20, 50)), ("more/c.png", (30, 30))):
        path = tmp_path / "crops" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((*size, 3), 120, np.uint8))
    (tmp_path / "crops" / "notes.txt").write_text("no image")
    return tmp_path / "crops"


def test_a_folder_of_crops_is_read_in_the_order_of_its_names(crops: Path) -> None:
    library = OccluderLibrary.open(crops)
    assert library.names == ("a.jpg", "b.png", "more/c.png")
    assert [library.load(i).shape for i in range(3)] == [(20, 50, 3), (40, 10, 3), (30, 30, 3)]
    assert OccluderLibrary.open(str(crops)).names == library.names


def test_generated_occluders_need_no_files_and_are_the_same_again() -> None:
    library = OccluderLibrary.open()
    shapes = [library.load(i).shape for i in range(0, len(library), 3)]
    assert all(len(shape) == 3 and shape[2] == 3 for shape in shapes)
    upright = [height > 2 * width for height, width, _ in shapes]
    assert 0.05 < np.mean(upright) < 0.5
    again = pickle.loads(pickle.dumps(OccluderLibrary.generated()))
    np.testing.assert_array_equal(again.load(7), library.load(7))
    other = OccluderLibrary.generated(seed=1)
    assert other.load(7).shape != library.load(7).shape or (other.load(7) != library.load(7)).any()


def test_generated_occluders_of_training_are_none_of_the_tests() -> None:
    kinds = {name.rpartition("-")[0] for name in OccluderLibrary.generated().names} - {"place"}
    assert kinds == set(occluder_kinds("train")) - {"person"}
    assert not kinds & set(occluder_kinds("test"))


def test_every_patch_is_drawn_about_as_often_as_any_other() -> None:
    library = OccluderLibrary(("a", "b", "c", "d"), lambda i: np.full((2, 2, 3), i, np.uint8))
    random = np.random.default_rng(0)
    counts = np.bincount([library.draw(random)[0, 0, 0] for _ in range(400)])
    assert counts.min() > 70


def test_a_library_that_cannot_be_used_says_why(tmp_path: Path, crops: Path) -> None:
    with pytest.raises(SimulatorError, match="missing, which is no folder"):
        OccluderLibrary.open(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SimulatorError, match=r"empty holds no occluders \(\.bmp, \.jpeg"):
        OccluderLibrary.open(tmp_path / "empty")
    whole = (crops / "a.jpg").read_bytes()
    (crops / "z.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SimulatorError, match=r"z\.jpg is not whole"):
        OccluderLibrary.open(crops)
    (crops / "z.jpg").write_bytes(b"no image at all")
    with pytest.raises(SimulatorError, match=r"z\.jpg: not an image"):
        OccluderLibrary.open(crops)
    with pytest.raises(SimulatorError, match="at least one patch"):
        OccluderLibrary((), lambda i: np.zeros((1, 1, 3), np.uint8))
