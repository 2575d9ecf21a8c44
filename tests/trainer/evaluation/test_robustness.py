"""The robustness curve: what is covered, what stays, and the figures at each share."""

from __future__ import annotations

import json

import numpy as np
import pytest

from glimpse.parts import Part, PartFeatures, PartSchema
from glimpse.preprocessing import Preprocessing
from trainer.data.listing import ImageSet, Listing
from trainer.evaluation import extract_listing
from trainer.evaluation.robustness import measure_robustness

SIZE = Preprocessing(height=32, width=16)
SCHEMA = PartSchema((Part("global", 8), Part("upper", 4), Part("legs", 4)))


def person(identity: int, shade: int) -> np.ndarray:
    """Upper and lower half have colours of their own."""
    image = np.zeros((32, 16, 3), np.uint8)
    image[:16] = (200 - 20 * identity, 20 + 30 * identity, 40 + shade)
    image[16:] = (10 + 40 * identity, 200 - 30 * identity, 90 + shade)
    return image


def run(images: np.ndarray) -> PartFeatures:
    """Mean colours of the halves; the lower counts as seen unless it has a pixel of white."""
    upper, lower = (
        images[:, half].reshape(len(images), -1, 3).mean(axis=1) / 255 for half in (slice(16), slice(16, 32))
    )
    legs = 1 - (images[:, 16:] == 255).all(axis=3).any(axis=(1, 2)).astype(np.float32)
    parts = [np.concatenate([upper, lower], 1), upper, lower]
    parts = [np.pad(part, ((0, 0), (0, dim - part.shape[1]))) for part, dim in zip(parts, SCHEMA.dims, strict=True)]
    vectors = np.concatenate([part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts], axis=1)
    visibility = np.stack([0.1 + 0 * legs, 1 + 0 * legs, legs], axis=1)
    vectors[legs == 0, 12:] = 0
    return PartFeatures(vectors.astype(np.float32), visibility.astype(np.float32), SCHEMA)


def listing() -> Listing:
    people, cameras = np.repeat(np.arange(5), 2), np.tile([0, 1], 5)
    names = tuple(f"{i}" for i in range(10))
    images = ImageSet(names, people, cameras, lambda i: person(int(people[i]), 10 * int(cameras[i])))
    return Listing("halves", images.take(np.arange(0, 10, 2)), images.take(np.arange(1, 10, 2)), ("a fact",))


def whiten(query: ImageSet, others: ImageSet, seed: int, ratio: tuple[float, float]) -> ImageSet:
    """Another recipe: white from below."""
    assert ratio[0] == ratio[1]
    assert len(others) == 5
    rows = round(32 * ratio[0])

    def load(i: int) -> np.ndarray:
        image = query.load(i).copy()
        image[32 - rows :] = 255 if seed == 0 else 254
        return image

    return ImageSet(query.ids, query.people, query.cameras, load)


def test_weighting_by_visibility_holds_where_ignoring_it_falls() -> None:
    data = listing()
    extraction = extract_listing(data, SIZE, run)
    counted: list[tuple[int, int]] = []
    curve = measure_robustness(
        extraction, data, SIZE, run, lambda *seen: counted.append(seen), ratios=(0.0, 0.25, 0.5), occlude=whiten
    )
    assert [point.ratio for point in curve.points] == [0, 0.25, 0.5]
    assert curve.points[0].rows["weighted"].rank1 == 1
    assert [point.rows["weighted"].rank1 for point in curve.points] == [1, 1, 1]
    assert curve.points[-1].rows["unweighted"].mAP < 1
    assert counted[-1] == (10, 10)
    assert [one for one, _ in counted] == sorted(one for one, _ in counted)


def test_the_curve_is_json_and_states_its_seed() -> None:
    data = listing()
    extraction = extract_listing(data, SIZE, run)
    curve = measure_robustness(extraction, data, SIZE, run, ratios=(0.0, 0.5), seed=7, occlude=whiten)
    written = json.loads(json.dumps(curve.to_dict()))
    assert [point["ratio"] for point in written["points"]] == [0, 0.5]
    assert 0 <= written["points"][1]["weighted"]["mAP"] <= 1
    assert "seed 7" in written["protocol"][0]


def test_the_protocols_own_recipe_covers_more_and_more_of_the_same_queries() -> None:
    data = listing()
    seen: list[np.ndarray] = []

    def watching(images: np.ndarray) -> PartFeatures:
        seen.append(images)
        return run(images)

    extraction = extract_listing(data, SIZE, run)
    measure_robustness(extraction, data, SIZE, watching, ratios=(0.0, 0.25, 0.75))
    whole = np.stack([data.query.load(i) for i in range(5)])
    little, much = ((images != whole).any(axis=3).mean(axis=(1, 2)) for images in seen)
    assert (little > 0.05).all()
    assert (much > little).all()


@pytest.mark.parametrize("ratios", [(0.2, 0.1), (0.0, 0.0), (-0.1,), (0.5, 1.0)])
def test_shares_that_are_no_curve_are_refused(ratios: tuple[float, ...]) -> None:
    data = listing()
    extraction = extract_listing(data, SIZE, run)
    with pytest.raises(ValueError, match=r"covered shares must ascend within \[0, 1\)"):
        measure_robustness(extraction, data, SIZE, run, ratios=ratios, occlude=whiten)
