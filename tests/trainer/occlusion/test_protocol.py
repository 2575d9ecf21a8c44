"""The fixed recipe for occluded queries."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from trainer.data.listing import DatasetError, ImageSet
from trainer.occlusion import SimulatorError
from trainer.occlusion.labels import CoverLabels
from trainer.occlusion.protocol import occluded_queries, occlusion_fact

SIZE = (64, 32)


def images(name: str, people: list[int], value: int | None = None) -> ImageSet:
    """Queries are of colour 1; donors are of the colour of their person, so that a strip tells whose it is."""
    ids = tuple(f"{name}{i:03d}" for i in range(len(people)))

    def load(i: int) -> np.ndarray:
        return np.full((*SIZE, 3), people[i] + 100 if value is None else value, np.uint8)

    return ImageSet(ids, np.array(people), np.arange(len(people)) % 3, load)


def permuted(images: ImageSet, seed: int = 0) -> ImageSet:
    return images.take(np.random.default_rng(seed).permutation(len(images)))


def by_id(images: ImageSet) -> dict[str, bytes]:
    return {name: images.load(i).tobytes() for i, name in enumerate(images.ids)}


QUERY = images("q", [i % 10 for i in range(400)], value=1)
OTHERS = images("g", [i % 10 for i in range(60)])
OCCLUDED = occluded_queries(QUERY, OTHERS)


def test_one_side_of_every_query_is_covered_by_somebody_elses_background() -> None:
    places: Counter[str] = Counter()
    for i, person in enumerate(QUERY.people):
        image = OCCLUDED.load(i)
        covered = image[..., 0] != 1
        labels = CoverLabels.of(covered)
        places[labels.place] += 1
        (donor,) = np.unique(image[covered])
        assert donor - 100 != person
        # Exactly what the set says, to the nearest pixel of the side.
        assert abs(labels.covered - OCCLUDED.hidden[i]) <= 0.5 / SIZE[1] + 1e-3
        assert 0.3 - 0.5 / SIZE[1] <= labels.covered <= 0.6 + 0.5 / SIZE[1]
    assert set(places) == {"bottom", "top", "left", "right"}
    assert places["bottom"] == pytest.approx(160, abs=40)
    assert places["left"] == pytest.approx(80, abs=30)


def test_ids_people_and_cameras_stay_and_the_others_are_left_alone() -> None:
    assert OCCLUDED.ids == QUERY.ids
    np.testing.assert_array_equal(OCCLUDED.people, QUERY.people)
    np.testing.assert_array_equal(OCCLUDED.cameras, QUERY.cameras)
    assert OCCLUDED.hidden.dtype == np.float32
    assert (QUERY.load(0) == 1).all()
    assert QUERY.hidden is None


def test_an_image_depends_on_its_id_and_the_seed_not_on_order_or_company() -> None:
    all_of_them = by_id(OCCLUDED)
    assert by_id(occluded_queries(permuted(QUERY), permuted(OTHERS, 1))) == all_of_them
    few = QUERY.take(np.array([7, 3, 99]))
    alone = occluded_queries(few, OTHERS)
    assert by_id(alone) == {name: all_of_them[name] for name in few.ids}
    assert by_id(OCCLUDED.take(np.array([7, 3, 99]))) == by_id(alone)
    np.testing.assert_array_equal(alone.hidden, OCCLUDED.hidden[[7, 3, 99]])
    assert by_id(occluded_queries(QUERY, OTHERS)) == all_of_them


def test_another_seed_is_another_protocol() -> None:
    other = occluded_queries(QUERY, OTHERS, seed=1)
    assert np.mean(other.hidden == OCCLUDED.hidden) < 0.01
    assert by_id(other) != by_id(OCCLUDED)


def test_another_ratio_keeps_side_and_donor_so_that_curves_are_smooth() -> None:
    more = occluded_queries(QUERY, OTHERS, ratio=(0.7, 0.7))
    assert (more.hidden == np.float32(0.7)).all()
    for i in range(50):
        less, wider = OCCLUDED.load(i), more.load(i)
        assert CoverLabels.of(less[..., 0] != 1).place == CoverLabels.of(wider[..., 0] != 1).place
        assert np.unique(less).tolist() == np.unique(wider).tolist()
    clean = occluded_queries(QUERY, OTHERS, ratio=(0.0, 0.0))
    assert by_id(clean) == by_id(QUERY)


def test_background_needs_another_person_and_shares_in_order() -> None:
    with pytest.raises(DatasetError, match="no image of anybody but person 4 to take background from, among 2"):
        occluded_queries(images("q", [4], value=1), images("g", [4, 4]))
    with pytest.raises(SimulatorError, match="two shares in order"):
        occluded_queries(QUERY, OTHERS, ratio=(0.6, 0.3))


def test_the_report_says_what_was_done() -> None:
    fact = occlusion_fact(seed=3, ratio=(0.3, 0.6))
    assert "seed 3" in fact
    assert "30% to 60%" in fact
