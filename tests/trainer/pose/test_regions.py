from __future__ import annotations

import cv2
import numpy as np
import pytest

from glimpse.people import PARTS
from trainer.pose import AnnotationError
from trainer.pose.regions import (
    BODYPIX24,
    BODYPIX_TO_GLIMPSE,
    LIP20,
    LIP_TO_GLIMPSE,
    LIP_TO_MSPR,
    read_label_map,
)


def regions_of(merge):
    return {
        name: set(np.flatnonzero(merge.table == place).tolist()) for place, name in enumerate(merge.regions, start=1)
    }


def test_lip_merges_to_the_regions_of_t_mspr():
    assert regions_of(LIP_TO_MSPR) == {
        "head": {2, 13},
        "body": {5, 6, 7, 10, 14, 15},
        "accessory": {1, 3, 4, 11},
        "legs": {9, 12, 16, 17},
        "feet": {8, 18, 19},
    }


def test_lip_merges_to_the_regions_of_glimpse():
    assert LIP_TO_GLIMPSE.regions == PARTS[1:]
    assert regions_of(LIP_TO_GLIMPSE) == {
        "head": {1, 2, 4, 11, 13},
        "upper": {5, 6, 7, 10},
        "arms": {3, 14, 15},
        "legs": {9, 12, 16, 17},
        "feet": {8, 18, 19},
    }


def test_bodypix_merges_to_the_regions_of_glimpse():
    assert len(BODYPIX24) == 24
    assert BODYPIX_TO_GLIMPSE.regions == PARTS[1:]
    assert regions_of(BODYPIX_TO_GLIMPSE) == {
        "head": {0, 1},
        "upper": {12, 13},
        "arms": set(range(2, 12)),
        "legs": set(range(14, 22)),
        "feet": {22, 23},
    }


@pytest.mark.parametrize("merge", [LIP_TO_MSPR, LIP_TO_GLIMPSE])
def test_every_lip_label_but_the_background_has_a_region(merge):
    assert len(merge.table) == len(LIP20) == 20
    assert np.flatnonzero(merge.table == 0).tolist() == [0]


def test_unknown_stays_unknown_and_labels_beyond_are_refused():
    assert LIP_TO_GLIMPSE(np.array([[255, 13]], np.uint8)).tolist() == [[255, 1]]
    with pytest.raises(AnnotationError, match=r"0 to 19.*got 20"):
        LIP_TO_GLIMPSE(np.array([[20]], np.uint8))


LABELS = np.arange(20, dtype=np.uint8).repeat(30).reshape(30, 20)


def test_label_maps_of_every_kind_read_alike(tmp_path):
    from PIL import Image

    cv2.imwrite(str(tmp_path / "grey.png"), LABELS)
    palette = Image.fromarray(LABELS, "P")
    palette.putpalette([value for i in range(256) for value in (255 - i, i, 7)])
    palette.save(tmp_path / "palette.png")
    np.save(tmp_path / "flat.npy", LABELS.astype(np.int64))
    np.save(tmp_path / "stacked.npy", LABELS[None].astype(np.float32))
    for name in ("grey.png", "palette.png", "flat.npy", "stacked.npy"):
        read = read_label_map(tmp_path / name, 20)
        assert read.dtype == np.uint8
        assert np.array_equal(read, LABELS), name


@pytest.mark.parametrize("name", ["grey.png", "palette.png", "flat.npy"])
def test_truncated_label_map_is_an_error_that_names_it(tmp_path, name):
    test_label_maps_of_every_kind_read_alike(tmp_path)
    whole = (tmp_path / name).read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 13):
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(AnnotationError, match=name):
            read_label_map(tmp_path / name)


@pytest.mark.parametrize("name", ["grey.png", "palette.png"])
def test_damaged_label_map_is_never_read_as_another(tmp_path, name):
    test_label_maps_of_every_kind_read_alike(tmp_path)
    whole = bytearray((tmp_path / name).read_bytes())
    refused = 0
    for place in range(8, len(whole), 7):
        damaged = whole.copy()
        damaged[place] ^= 0x11
        (tmp_path / name).write_bytes(damaged)
        try:
            assert np.array_equal(read_label_map(tmp_path / name, 20), LABELS), place
        except AnnotationError:
            refused += 1
    assert refused > 10


@pytest.mark.parametrize(
    ("write", "problem"),
    [
        (lambda path: cv2.imwrite(str(path), np.zeros((4, 4, 3), np.uint8)), "grey or palette"),
        (lambda path: cv2.imwrite(str(path), np.zeros((4, 4), np.uint16)), "uint16"),
        (lambda path: cv2.imwrite(str(path), np.full((4, 4), 20, np.uint8)), "0 to 19"),
    ],
)
def test_picture_that_is_no_label_map_is_refused(tmp_path, write, problem):
    path = tmp_path / "map.png"
    write(path)
    with pytest.raises(AnnotationError, match=problem):
        read_label_map(path, 20)


@pytest.mark.parametrize("array", [np.full((3, 3), 0.5), np.zeros((2, 3, 3), np.int64), np.full((2, 2), -1)])
def test_array_that_is_no_label_map_is_refused(tmp_path, array):
    np.save(tmp_path / "map.npy", array)
    with pytest.raises(AnnotationError, match=r"map\.npy"):
        read_label_map(tmp_path / "map.npy")


def test_missing_label_map_is_named(tmp_path):
    with pytest.raises(AnnotationError, match=r"no label map x\.png"):
        read_label_map(tmp_path / "x.png")
