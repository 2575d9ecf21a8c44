"""Images to features, and the features file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from glimpse.parts import PartFeatures
from glimpse.preprocessing import Preprocessing
from tests.trainer.evaluation.labelled import labelled
from tests.trainer.features import SCHEMA, random_features
from trainer.data.listing import DatasetError, ImageSet, Listing, Shots
from trainer.evaluation import Extraction, evaluate, extract, extract_listing, load_features, save_features


def test_features_file_gives_the_same_report(tmp_path: Path) -> None:
    query = labelled(random_features(6, seed=7).stored(), [1, 2, 3, 1, 2, 3], [0] * 6)
    gallery = labelled(random_features(9, seed=8).stored(), [1, 2, 3] * 3, [1] * 9)
    extraction = Extraction("fabricated", ("a fact",), query, gallery)
    save_features(tmp_path / "features.npz", extraction)
    loaded = load_features(tmp_path / "features.npz")
    assert loaded.gallery.features.schema == SCHEMA
    assert evaluate(loaded).to_dict() == evaluate(extraction).to_dict()


def test_a_file_that_holds_no_features_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "other.npz"
    np.savez(path, something=np.zeros(3))
    with pytest.raises(ValueError, match=r"other\.npz is not a features file"):
        load_features(path)


def test_extraction_rounds_the_gallery_as_a_server_stores_it_and_not_the_queries() -> None:
    source = random_features(10, seed=9)

    def draw(row: int) -> np.ndarray:
        return np.full((16, 16, 3), row, np.uint8)

    def run(images: np.ndarray) -> PartFeatures:
        return source[images[:, 0, 0, 0].astype(np.int64)]

    images = ImageSet(tuple("abcdefghij"), np.arange(10), np.arange(10), draw)
    seen: list[tuple[int, int]] = []
    extraction = extract_listing(
        Listing("fabricated", images, images, ()),
        Preprocessing(height=16, width=16),
        run,
        lambda done, everything: seen.append((done, everything)),
    )
    np.testing.assert_array_equal(extraction.gallery.features.vectors, source.stored().vectors)
    np.testing.assert_array_equal(extraction.query.features.vectors, source.vectors)
    assert seen[-1] == (20, 20)


def pictured(count: int) -> tuple[ImageSet, PartFeatures]:
    """Images that are their own row's number throughout, and random features of as many."""
    draw = lambda row: np.full((16, 16, 3), row, np.uint8)  # noqa: E731
    names = tuple(f"i{row}" for row in range(count))
    return ImageSet(names, np.arange(count), np.arange(count), draw), random_features(count, seed=11)


def test_a_features_file_keeps_what_is_known_of_the_model_and_of_queries_of_several_images(tmp_path: Path) -> None:
    query = labelled(random_features(4, seed=1), [1, 1, 2, 2], [0] * 4)
    gallery = labelled(random_features(6, seed=2).stored(), [1, 2, 3] * 2, [1] * 6)
    shots = Shots(np.array([0, 0, 1, 1]), "mean")
    extraction = Extraction("fabricated", (), query, gallery, {"seed": "3"}, shots)
    save_features(tmp_path / "features.npz", extraction)
    loaded = load_features(tmp_path / "features.npz")
    assert loaded.model == {"seed": "3"}
    assert loaded.shots is not None
    assert loaded.shots.pool == "mean"
    assert loaded.shots.sets.tolist() == [0, 0, 1, 1]
    assert evaluate(loaded).to_dict() == evaluate(extraction).to_dict()


def test_key_points_go_to_the_model_beside_their_images() -> None:
    images, source = pictured(10)
    seen = []

    def run(pixels: np.ndarray, points: np.ndarray) -> PartFeatures:
        seen.append((pixels[:, 0, 0, 0].tolist(), points[:, 0, 0].tolist()))
        return source[pixels[:, 0, 0, 0].astype(np.int64)]

    def points(image_id: str, size: tuple[int, int]) -> np.ndarray:
        assert size == (16, 16)
        return np.full((17, 3), int(image_id[1:]), np.float32)

    extract(images, Preprocessing(height=16, width=16), run, points=points, batch=6)
    assert seen == [(list(range(6)), list(range(6))), (list(range(6, 10)), list(range(6, 10)))]


def test_an_empty_gallery_is_an_error_that_names_the_data_set() -> None:
    images, source = pictured(3)
    nobody = images.take(np.array([], np.int64))
    with pytest.raises(DatasetError, match="fabricated has no gallery images"):
        extract_listing(
            Listing("fabricated", images, nobody, ()), Preprocessing(height=16, width=16), source.__getitem__
        )
    with pytest.raises(DatasetError, match="fabricated has no queries"):
        extract_listing(
            Listing("fabricated", nobody, images, ()), Preprocessing(height=16, width=16), source.__getitem__
        )


def test_a_visible_part_of_zero_mass_is_refused_with_its_name_and_row() -> None:
    images, source = pictured(5)

    def run(pixels: np.ndarray) -> PartFeatures:
        chosen = source[pixels[:, 0, 0, 0].astype(np.int64)]
        vectors, visibility = chosen.vectors.copy(), chosen.visibility.copy()
        vectors[2, SCHEMA.slices[1]], visibility[2, 1] = 0, 0.5
        return PartFeatures(vectors, visibility, SCHEMA)

    with pytest.raises(ValueError, match="part 'head' of row 2 has norm 0: expected 1 within"):
        extract(images, Preprocessing(height=16, width=16), run)
