"""Training data: aligned augmentation, true visibilities, PxK batches; and the listings of evaluation."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import people as people_benchmark
from glimpse.people import PARTS, PeopleGenerator
from glimpse.preprocessing import Preprocessing
from trainer.data import find_listing
from trainer.data.annotated import Annotated
from trainer.data.augmentation import augment, replace_backdrop
from trainer.data.generated import list_validation
from trainer.data.listing import DatasetError, Listing
from trainer.data.rendered import render
from trainer.data.sampler import IdentitySampler
from trainer.data.training import Source, TrainingSet
from trainer.recipe import AugmentationRecipe, DataRecipe, OcclusionRecipe

STILL = AugmentationRecipe(flip=0, shift=0, colour=0, blur=0, backdrop=0, recolour=0)
SMALL = DataRecipe(identities=3, views=3, validation_identities=3, cameras=3, occluded=0.5)
SIZE = Preprocessing(height=96, width=48, interpolation="area")


@pytest.fixture(scope="module")
def occluded() -> Listing:
    return find_listing("generated-occluded")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return render(SMALL, SIZE, cache=tmp_path_factory.mktemp("cache"), workers=1)[0]


@pytest.fixture
def people(source: Source) -> TrainingSet:
    return TrainingSet([source], STILL, OcclusionRecipe())


def test_a_marked_pixel_stays_marked() -> None:
    recipe = STILL.model_copy(update={"flip": 0.5, "shift": 0.2})
    for seed in range(20):
        image = np.zeros((64, 32, 3), np.uint8)
        regions = np.zeros((64, 32), np.uint8)
        image[24:36, 12:20] = 255
        regions[24:36, 12:20] = 3
        sample = augment(Annotated(image, {"regions": regions}), image, recipe, np.random.default_rng(seed))
        moved, marks = sample.image, sample.maps["regions"]
        bright = moved[..., 0] > 127
        assert (marks == 3).sum() > 0
        # They may disagree by a pixel along the border: one is interpolated, the other is not.
        kernel = np.ones((3, 3), np.uint8)
        assert not (cv2.erode((marks == 3).astype(np.uint8), kernel).astype(bool) & ~bright).any()
        assert not (cv2.erode(bright.astype(np.uint8), kernel).astype(bool) & (marks != 3)).any()


def test_growth_is_the_change_of_area() -> None:
    recipe = STILL.model_copy(update={"shift": 0.2})
    regions = np.zeros((200, 100), np.uint8)
    regions[80:120, 40:60] = 1
    image = np.repeat(regions[..., None], 3, axis=2)
    for seed in range(5):
        sample = augment(Annotated(image, {"regions": regions}), image, recipe, np.random.default_rng(seed))
        assert (sample.maps["regions"] == 1).sum() == pytest.approx(sample.growth * 800, rel=0.08)


def test_rendered_views_carry_the_generators_visibilities(people: TrainingSet) -> None:
    assert people.size == (96, 48)
    assert people.identities.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    seen = np.stack([people[row, 0].base.visibility for row in range(len(people))])
    assert seen.shape == (9, len(PARTS))
    assert seen[:, 0].min() < 0.8  # some are occluded
    assert seen[:, 0].max() > 0.95
    assert all(people[row, 0].base.certain.all() for row in range(len(people)))


def test_key_points_of_rendered_views_lie_on_the_part_they_belong_to(people: TrainingSet) -> None:
    hits = []
    for row in range(len(people)):
        base = people[row, 0].base
        for joint, region in ((0, 1), (13, 4), (14, 4)):  # nose, knees
            x, y, confidence = base.points[joint]
            if confidence > 0:
                hits.append(base.regions[round(float(y)), round(float(x))] == region)
    assert len(hits) > 5
    assert np.mean(hits) > 0.9


def test_the_same_draw_gives_the_same_sample_and_another_draw_another(source: Source) -> None:
    moving = TrainingSet([source], AugmentationRecipe(), OcclusionRecipe(), seed=1)
    np.testing.assert_array_equal(moving[2, 5].base.image, moving[2, 5].base.image)
    assert (moving[2, 5].base.image != moving[2, 6].base.image).any()


def test_simulators_act_on_the_image_and_make_the_views_a_recipe_asks_for(source: Source) -> None:
    strip = {"simulator": "strip", "options": {"ratio": [0.5, 0.5]}}
    occlusion = OcclusionRecipe.model_validate({"training": [strip | {"probability": 0.5}], "views": {"twin": [strip]}})
    data = TrainingSet([source], STILL, occlusion, seed=3)
    samples = [data[row, draw] for draw, row in enumerate(range(len(data)))]
    assert all(sample.views["twin"].covered.mean() == pytest.approx(0.5, abs=0.02) for sample in samples)
    covered = [sample.base.covered.mean() for sample in samples]
    assert {round(float(share), 1) for share in covered} == {0.0, 0.5}
    for sample in samples:
        assert sample.views["twin"].visibility[0] <= data[sample.row, 0].base.visibility[0] + 0.5
        assert (sample.views["twin"].regions[sample.views["twin"].covered] == 0).all()


def test_another_backdrop_keeps_the_person() -> None:
    image, other = np.full((60, 30, 3), 200, np.uint8), np.full((60, 30, 3), 50, np.uint8)
    regions = np.zeros((60, 30), np.uint8)
    regions[20:40, 10:20] = 1
    for seed in range(4):
        changed = replace_backdrop(Annotated(image, {"regions": regions}), other, np.random.default_rng(seed)).image
        assert (changed[23:37, 13:17] == 200).all()
        assert np.isin(changed[regions == 0][:30], (50, 205)).all()


def test_views_of_one_identity_in_a_batch_are_recoloured_alike_and_are_no_training_identity(source: Source) -> None:
    always = STILL.model_copy(update={"recolour": 1.0})
    recoloured = TrainingSet([source], always, OcclusionRecipe(), group=3)
    for first in (0, 3, 6):
        plain = [source.images[row].reshape(-1, 3) for row in range(3)]
        samples = [recoloured[row, first + row] for row in range(3)]
        orders = {
            tuple(
                int(np.argmin(np.abs(source - sample.base.image.reshape(-1, 3)[:, [channel]]).sum(0)))
                for channel in range(3)
            )
            for source, sample in zip([pixels.astype(int) for pixels in plain], samples, strict=True)
        }
        assert len(orders) == 1
        assert orders != {(0, 1, 2)}
        assert not any(sample.known for sample in samples)


def test_first_draws_come_small_and_later_ones_whole(source: Source) -> None:
    progressive = TrainingSet([source], STILL, OcclusionRecipe(), small_draws=2)
    assert progressive[0, 1].base.image.shape == (64, 32, 3)
    assert progressive[0, 1].base.regions.shape == (64, 32)
    assert progressive[0, 2].base.image.shape == (96, 48, 3)
    np.testing.assert_allclose(progressive[0, 1].base.visibility, progressive[0, 2].base.visibility, atol=0.12)


def test_a_second_call_reads_the_cache(source: Source, tmp_path: Path) -> None:
    first, key = render(SMALL, SIZE, cache=tmp_path, workers=1)
    calls: list[int] = []
    again, same = render(SMALL, SIZE, cache=tmp_path, progress=lambda done, _: calls.append(done))
    assert calls == []
    assert key == same
    np.testing.assert_array_equal(first.images, again.images)
    np.testing.assert_array_equal(first.images, source.images)


def test_batches_hold_p_people_with_k_views_each() -> None:
    identities = np.repeat(np.arange(7), 5)
    batches = list(IdentitySampler(identities, people=3, views=4, steps=6, seed=0))
    assert len(batches) == 6
    for batch in batches:
        rows = [row for row, _ in batch]
        who, counts = np.unique(identities[rows], return_counts=True)
        assert (len(who), counts.tolist()) == (3, [4, 4, 4])
        assert len(set(rows)) == 12
    draws = [draw for batch in batches for _, draw in batch]
    assert len(set(draws)) == len(draws)


def test_the_sampler_repeats_itself_for_one_seed_and_refuses_too_few_people() -> None:
    identities = np.repeat(np.arange(4), 2)
    first, second = (list(IdentitySampler(identities, 2, 3, 4, seed=5)) for _ in range(2))
    assert first == second
    with pytest.raises(ValueError, match="needs 5 identities, the data has 4"):
        IdentitySampler(identities, 5, 2, 1, seed=0)


def test_validation_people_are_none_of_the_training_people() -> None:
    listing = list_validation(SMALL)
    assert set(listing.gallery.people.tolist()) == {3, 4, 5}


def write(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((32, 16, 3), value, np.uint8))


def test_market1501_drops_junk_and_keeps_distractors(tmp_path: Path) -> None:
    root = tmp_path / "Market-1501-v15.09.15"
    write(root / "query" / "0001_c1s1_001051_00.jpg")
    for name in ("0001_c2s1_000001_01", "0000_c1s1_000002_01", "-1_c3s1_000003_04", "0001_c1s2_000004_02"):
        write(root / "bounding_box_test" / f"{name}.jpg", 100)
    for path in (tmp_path, root):
        listing = find_listing(f"market1501:{path}")
        assert listing.query.ids == ("query/0001_c1s1_001051_00.jpg",)
        assert listing.gallery.people.tolist() == [0, 1, 1]
        assert listing.gallery.cameras.tolist() == [1, 1, 2]
        assert listing.gallery.load(1).shape == (32, 16, 3)
        assert any("not the whole set" in fact for fact in listing.facts)


def test_market1501_names_a_file_it_does_not_understand(tmp_path: Path) -> None:
    write(tmp_path / "query" / "0001_c1s1_001051_00.jpg")
    write(tmp_path / "bounding_box_test" / "holiday.jpg")
    with pytest.raises(DatasetError, match=r"holiday\.jpg: expected a name like"):
        find_listing(f"market1501:{tmp_path}")


def test_a_folder_without_cameras_leaves_out_the_query_alone(tmp_path: Path) -> None:
    for name in ("ann/1.png", "ann/2.png", "bob/1.png"):
        write(tmp_path / name)
    listing = find_listing(f"folder:{tmp_path}")
    assert listing.query.ids == listing.gallery.ids == ("ann/1.png", "ann/2.png", "bob/1.png")
    assert listing.gallery.people.tolist() == [1, 1, 2]
    assert len(set(listing.gallery.cameras.tolist())) == 3


def test_a_folder_with_query_and_gallery_reads_cameras_from_names(tmp_path: Path) -> None:
    for name in ("query/ann/c1_a.jpg", "gallery/ann/0001_c2s3.jpg", "gallery/bob/c2.jpg"):
        write(tmp_path / name)
    listing = find_listing(f"folder:{tmp_path}")
    assert listing.query.cameras.tolist() == [1]
    assert listing.gallery.cameras.tolist() == [2, 2]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "unknown data set 'nothing'; choose from"),
        ("market1501", "needs a path"),
        ("generated:here", "takes no path"),
        ("market1501:/nowhere", "expected folders query and bounding_box_test"),
        ("folder:/nowhere", "no folder"),
    ],
)
def test_a_wrong_data_set_says_what_was_expected(name: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        find_listing(name)


def test_the_protocol_is_that_of_the_peoples_benchmark(occluded: Listing) -> None:
    listing = occluded
    generator = PeopleGenerator(people_benchmark.SEED, wardrobe="test")
    queries = list(people_benchmark.query_views(generator, 3))
    gallery = list(people_benchmark.gallery_views(generator, 3))
    assert len(listing.query) == people_benchmark.IDENTITIES
    for side, views in ((listing.query, queries), (listing.gallery, gallery)):
        for row, view in enumerate(views):
            assert (side.people[row], side.cameras[row]) == (view.identity, view.camera)
            np.testing.assert_array_equal(side.load(row), view.image)


def test_generated_queries_are_hidden_by_half_at_least_and_limits_spread_over_them(occluded: Listing) -> None:
    hidden = occluded.query.hidden
    assert hidden is not None
    assert 0.5 <= hidden.min() <= hidden.max() <= 0.7
    few = occluded.limited(3)
    assert few.query.people.tolist() == [0, 149, 299]
    assert few.query.hidden is not None
    assert few.query.hidden.tolist() == hidden[[0, 149, 299]].tolist()
    np.testing.assert_array_equal(few.query.load(1), occluded.query.load(149))
    assert any("only 3 of" in fact for fact in few.facts)


def test_people_for_calibration_are_whole_and_hidden_in_turn_and_none_of_the_test() -> None:
    listing = find_listing("generated-calibration")
    assert (len(listing.query), len(listing.gallery)) == (800, 1_200)
    assert listing.query.hidden is not None
    assert (listing.query.hidden[::2] == 0).all()
    assert (listing.query.hidden[1::2] > 0.25).all()
    np.testing.assert_array_equal(listing.query.people[::2], listing.query.people[1::2])
    assert (listing.query.cameras[::2] != listing.query.cameras[1::2]).all()
    tested = find_listing("generated")
    assert not np.array_equal(listing.query.load(0), tested.query.load(0))
    assert "every second one whole, the others 30% to 80% hidden" in listing.facts[1]
