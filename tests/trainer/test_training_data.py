"""From a data set on disk to training samples: held-out people, annotations, copies in other colours, a teacher."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from glimpse.people import PARTS
from glimpse.preprocessing import Preprocessing
from trainer.data import find_training
from trainer.data import sources as sources_module
from trainer.data.annotated import UNKNOWN
from trainer.data.decoded import decode
from trainer.data.listing import DatasetError
from trainer.data.sources import hold_out, open_sources
from trainer.data.training import Source, TrainingSet, shares_of, visible_shares
from trainer.provenance import fingerprint
from trainer.recipe import AugmentationRecipe, DataRecipe, OcclusionRecipe, Recipe, TeacherRecipe, parse_recipe

SIZE = Preprocessing(height=32, width=16, interpolation="area")
STILL = AugmentationRecipe(flip=0, shift=0, colour=0, blur=0, backdrop=0, recolour=0)
PEOPLE = 24


def colour_of(person: int, camera: int, shot: int) -> tuple[int, int, int]:
    return (10 + 7 * person, 40 * camera, 60 * shot)


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 people, two cameras, two shots each, every picture of one colour; junk besides."""
    root = tmp_path_factory.mktemp("market")
    folder = root / "bounding_box_train"
    folder.mkdir()
    for person in range(PEOPLE):
        for camera in (1, 2):
            for shot in (1, 2):
                image = np.full((32, 16, 3), colour_of(person, camera, shot), np.uint8)
                name = f"{person + 2:04d}_c{camera}s1_{shot:06d}_01.png"
                cv2.imwrite(str(folder / name), image[..., ::-1])
                (folder / name).rename(folder / name.replace(".png", ".jpg"))  # lossless under the expected name
    return root


def annotate(root: Path, ids: list[str]) -> Path:
    """A folder of `glimpse datasets annotate` that knows the upper body of all but the first image."""
    folder = root / "annotations"
    for image_id in ids:
        stem = Path(image_id).with_suffix("")
        regions = np.zeros((32, 16), np.uint8)
        if image_id != ids[0]:
            regions[4:16, 4:12] = PARTS.index("upper")
        png, pose = folder / "regions" / f"{stem}.png", folder / "keypoints" / f"{stem}.json"
        png.parent.mkdir(parents=True, exist_ok=True)
        pose.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(png), regions)
        points = np.zeros((18, 3))
        points[2] = (6, 5, 0.9)  # right shoulder
        points[5] = (10, 5, 0.8)
        points[1] = (8, 5, 0.85)
        pose.write_text(json.dumps({"people": [{"pose_keypoints_2d": points.ravel().tolist()}]}))
    record = {
        "format": 1, "model": "test", "model_sha256": "0" * 64, "adapter": "test",
        "regions": list(PARTS[1:]), "writes": ["regions", "keypoints"],
    }  # fmt: skip
    (folder / "annotations.json").write_text(json.dumps(record))
    return folder


def test_held_out_people_are_not_trained_on_and_are_found_by_another_camera(market: Path) -> None:
    listing = find_training(f"market1501:{market}")
    kept, validation = hold_out(listing, 200)
    assert len(np.unique(kept.images.people)) == PEOPLE - 2  # a tenth at the most
    held = set(validation.query.people.tolist())
    assert held == set(validation.gallery.people.tolist())
    assert not held & set(kept.images.people.tolist())
    assert len(kept.images) + len(validation.query) + len(validation.gallery) == len(listing.images)
    for row, who in enumerate(validation.query.people):
        others = validation.gallery.cameras[validation.gallery.people == who]
        assert (others != validation.query.cameras[row]).any()
    hidden = validation.query.hidden
    assert hidden is not None
    assert (hidden[::2] == 0).all()
    assert (hidden[1::2] > 0.2).all()
    assert set(hold_out(listing, 200)[1].query.ids) == set(validation.query.ids)


def test_too_few_people_for_validation_say_so(market: Path) -> None:
    listing = find_training(f"market1501:{market}")
    few = listing.images.take(np.flatnonzero(listing.images.people < 10))
    from dataclasses import replace

    with pytest.raises(DatasetError, match=r"8 identities have images by two cameras.*at least 20"):
        hold_out(replace(listing, images=few), 5)


def test_annotations_become_regions_key_points_and_known_visibilities(market: Path, tmp_path: Path) -> None:
    listing = find_training(f"market1501:{market}")
    folder = annotate(tmp_path, list(listing.images.ids))
    source, _ = decode("market1501", listing, SIZE, folder, cache=tmp_path)
    assert any("1 of 96 images without a person found" in fact for fact in source.facts)
    assert (source.regions[0] == UNKNOWN).all()
    assert np.isnan(source.extent[0]).all()
    samples = [TrainingSet([source], STILL, OcclusionRecipe())[row, 0] for row in (0, 1)]
    assert not samples[0].base.certain.any()
    assert samples[0].base.visibility.tolist() == [1.0] * len(PARTS)
    upper = PARTS.index("upper")
    assert samples[1].base.certain.tolist() == [part in ("global", "upper") for part in PARTS]
    assert samples[1].base.visibility[[0, upper]].tolist() == [1.0, 1.0]
    assert samples[1].base.visibility[PARTS.index("legs")] == 0  # found nowhere in the picture
    shoulder = samples[1].base.points[6]  # COCO's right shoulder
    np.testing.assert_allclose(shoulder, (6, 5, 0.9), atol=1e-5)
    assert (samples[1].base.points[13:, 2] == 0).all()


def test_other_pixels_under_the_same_names_are_decoded_anew(market: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(market, tmp_path / "copy"))
    first, other = (
        decode("market1501", find_training(f"market1501:{at}"), SIZE, cache=tmp_path) for at in (market, copy)
    )
    assert first[1] != other[1]  # another place
    np.testing.assert_array_equal(first[0].images, other[0].images)
    assert fingerprint([first[0]]) == fingerprint([other[0]])
    path = sorted((copy / "bounding_box_train").iterdir())[0]
    cv2.imwrite(str(path), 255 - cv2.imread(str(path)))
    changed, key = decode("market1501", find_training(f"market1501:{copy}"), SIZE, cache=tmp_path)
    assert key != other[1]
    assert not np.array_equal(changed.images, other[0].images)
    assert fingerprint([changed]) != fingerprint([other[0]])
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DatasetError, match=path.name):
        decode("market1501", find_training(f"market1501:{copy}"), SIZE, cache=tmp_path)


def test_shares_are_known_unknown_or_nothing() -> None:
    regions = np.array([[1, 1, 0, 2]], np.uint8)
    extent = np.array([4, 2, 2, np.inf, np.nan, np.nan], np.float32)
    covered = np.array([[False, False, True, False]])
    visibility, certain = visible_shares(regions, extent, covered)
    np.testing.assert_allclose(visibility, [0.75, 1.0, 0.5, 0.0, 0.75, 0.75])
    assert certain.tolist() == [True, True, True, False, False, False]


def test_copies_are_other_people_in_other_colours(market: Path, tmp_path: Path) -> None:
    listing = find_training(f"market1501:{market}")
    source, _ = decode("market1501", listing, SIZE, copies=3, cache=tmp_path)
    data = TrainingSet([source], STILL, OcclusionRecipe())
    count = len(listing.images)
    assert len(data) == 3 * count
    assert data.population.identities == 3 * PEOPLE
    original, copy = data[5, 0], data[5 + count, 0]
    assert copy.identity == original.identity + PEOPLE
    assert copy.camera == original.camera
    np.testing.assert_array_equal(copy.base.image, original.base.image[..., [0, 2, 1]])


def test_a_teacher_sees_every_image_once_copies_included(
    market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer.data import teachers

    seen: list[int] = []

    class Mean:
        """A teacher whose embedding is an image's mean colour."""

        name, sha256, bgr, size, width = "mean", "f" * 64, True, (32, 16), 3

        def __init__(self, recipe: TeacherRecipe) -> None:
            pass

        def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            seen.append(len(images))
            means = images.mean((1, 2)).astype(np.float32)
            return means / np.linalg.norm(means, axis=1, keepdims=True)

    monkeypatch.setattr(teachers, "Teacher", Mean)
    listing = find_training(f"market1501:{market}")
    source, key = decode("market1501", listing, SIZE, copies=2, cache=tmp_path)
    recipe = TeacherRecipe(model="mean.xml", note="knows nothing")
    taught = teachers.taught(source, recipe, key, cache=tmp_path)
    assert sum(seen) == 2 * len(listing.images)
    assert any("teacher mean" in fact and "knows nothing" in fact for fact in taught.facts)
    data = TrainingSet([taught], STILL, OcclusionRecipe())
    for row in (3, 3 + len(listing.images)):
        sample = data[row, 0]
        wanted = sample.base.image.mean((0, 1))
        assert sample.teacher is not None
        np.testing.assert_allclose(sample.teacher, wanted / np.linalg.norm(wanted), atol=2e-3)
    teachers.taught(source, recipe, key, cache=tmp_path)
    assert sum(seen) == 2 * len(listing.images)  # from the cache


def test_a_missing_teacher_is_named(tmp_path: Path) -> None:
    from trainer.data.teachers import Teacher

    with pytest.raises(DatasetError, match=r"no teacher .*gone\.xml"):
        Teacher(TeacherRecipe(model=str(tmp_path / "gone.xml"), note="-"))


def source_of(name: str, people: list[int]) -> Source:
    count = len(people)
    return Source(
        name,
        np.zeros((count, 8, 4, 3), np.uint8),
        np.full((count, 8, 4), UNKNOWN, np.uint8),
        np.full((count, len(PARTS)), np.nan, np.float32),
        np.zeros((count, 17, 3), np.float32),
        np.array(people),
        np.zeros(count, np.int64),
    )


def test_identities_count_through_all_sources_and_shares_are_spread_over_them() -> None:
    sources = [source_of("a", [9, 9, 4]), source_of("b", [4, 5, 6, 4])]
    data = TrainingSet(sources, STILL, OcclusionRecipe())
    assert data.identities.tolist() == [1, 1, 0, 2, 3, 4, 2]
    assert shares_of(sources, {}) is None
    shares = shares_of(sources, {"a": 0.7})
    assert shares is not None
    np.testing.assert_allclose(shares, [0.35, 0.35, 0.1, 0.1, 0.1])
    for wrong in ({"c": 0.5}, {"a": 1.2}, {"a": 0.2, "b": 0.2}):
        with pytest.raises(ValueError, match="must name sources"):
            shares_of(sources, wrong)


def recipe_with(**data: object) -> Recipe:
    values = {
        "name": "test", "method": "glimpse", "preprocessing": {"height": 32, "width": 16}, "data": data,
    }  # fmt: skip
    return parse_recipe(values)


@pytest.mark.parametrize(
    ("names", "data", "message"),
    [
        ((), {}, "one or more different data sets"),
        (("generated", "generated"), {}, "different data sets"),
        (("generated",), {"annotations": {"market1501": "x"}}, "data.annotations names .*market1501"),
        (("generated",), {"copies": {"conreid": 2}}, "data.copies names .*conreid"),
    ],
)
def test_wrong_sources_are_named(names: tuple[str, ...], data: dict[str, object], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        open_sources(recipe_with(**data), names)


def test_drawings_and_photographs_are_opened_together(
    market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[DataRecipe] = []

    def drawn(data: DataRecipe, preprocessing: Preprocessing, **_: object) -> tuple[Source, str]:
        asked.append(data)
        return source_of("generated", [0, 1]), "key"

    monkeypatch.setattr(sources_module, "render", drawn)
    recipe = recipe_with(identities=2, validation_identities=2, copies={"market1501": 2})
    sources, listings = open_sources(recipe, ["generated", f"market1501:{market}"], cache=tmp_path)
    assert [source.name for source in sources] == ["generated", "market1501"]
    assert sources[1].copies == 2
    assert [listing.name for listing in listings] == ["validation", "market1501 held out"]
    assert asked == [recipe.data]
