"""The generator of people: the same arguments give the same pixels, and every annotation says what the pixels show."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest

from glimpse.people import PART_NAMES, PARTS, PeopleGenerator, PersonView, occluder_kinds
from glimpse.people.occluders import KINDS
from glimpse.people.palette import clothing
from glimpse.people.skeleton import KEYPOINTS

RANGES = [(0.05, 0.15), (0.2, 0.5), (0.5, 0.7), (0.8, 0.95)]


@pytest.fixture(scope="module")
def generator() -> PeopleGenerator:
    return PeopleGenerator(seed=7)


@pytest.fixture(scope="module")
def clean(generator: PeopleGenerator) -> list[PersonView]:
    return [generator.view(identity, identity % 5, identity % 3) for identity in range(24)]


@pytest.fixture(scope="module")
def hidden(generator: PeopleGenerator) -> list[PersonView]:
    return [generator.view(i, i % 5, i % 3, RANGES[i % len(RANGES)]) for i in range(24)]


def assert_same(left: PersonView, right: PersonView) -> None:
    for field in dataclasses.fields(PersonView):
        assert np.array_equal(getattr(left, field.name), getattr(right, field.name)), field.name


@pytest.mark.parametrize("occlusion", [None, (0.4, 0.6)])
def test_same_arguments_give_the_same_view_whatever_was_drawn_before(occlusion: tuple[float, float] | None) -> None:
    first = PeopleGenerator(3).view(5, 2, 1, occlusion)
    busy = PeopleGenerator(3)
    for identity in range(4):
        busy.view(identity, 2, 0, (0.3, 0.5))
    assert_same(first, busy.view(5, 2, 1, occlusion))
    assert_same(first, busy.view(5, 2, 1, occlusion))


@pytest.mark.parametrize(
    "other",
    [
        lambda: PeopleGenerator(8).view(0, 0, 0),
        lambda: PeopleGenerator(7, wardrobe="test").view(0, 0, 0),
        lambda: PeopleGenerator(7).view(1, 0, 0),
        lambda: PeopleGenerator(7).view(0, 1, 0),
        lambda: PeopleGenerator(7).view(0, 0, 1),
        lambda: PeopleGenerator(7).view(0, 0, 0, (0.3, 0.5)),
    ],
    ids=["seed", "wardrobe", "identity", "camera", "shot", "occlusion"],
)
def test_every_argument_changes_the_image(generator: PeopleGenerator, other) -> None:
    difference = np.abs(generator.view(0, 0, 0).image.astype(int) - other().image)
    assert difference.mean() > 4


def test_a_generator_sent_to_another_process_draws_the_same(generator: PeopleGenerator) -> None:
    twin = pickle.loads(pickle.dumps(generator))
    assert_same(generator.view(3, 1, 0, (0.3, 0.6)), twin.view(3, 1, 0, (0.3, 0.6)))


def test_views_have_the_documented_shapes_and_types(clean: list[PersonView], hidden: list[PersonView]) -> None:
    for view in clean + hidden:
        assert (view.image.shape, view.image.dtype) == ((256, 128, 3), np.uint8)
        assert (view.parts.shape, view.parts.dtype) == ((256, 128), np.uint8)
        assert (view.visible.shape, view.visible.dtype) == ((256, 128), np.bool_)
        assert (view.keypoints.shape, view.keypoints.dtype) == ((len(KEYPOINTS), 3), np.float32)
        assert (view.visibility.shape, view.visibility.dtype) == ((len(PARTS),), np.float32)
        assert view.image.std() > 10


@pytest.mark.parametrize(("height", "width"), [(64, 32), (192, 96), (384, 128)])
def test_other_sizes_are_drawn_and_occluded(height: int, width: int) -> None:
    view = PeopleGenerator(1, height, width).view(0, 0, 0, (0.4, 0.6))
    assert view.image.shape == (height, width, 3)
    assert 0.4 <= view.hidden <= 0.6


def test_visibility_is_what_the_masks_say(clean: list[PersonView], hidden: list[PersonView]) -> None:
    for view in clean + hidden:
        assert not (view.visible & (view.parts == 0)).any()
        seen = [(view.visible & (view.parts == part)).sum() for part in range(1, len(PARTS))]
        expected = np.array([sum(seen), *seen]) / np.maximum(view.extent, 1)
        np.testing.assert_allclose(view.visibility, expected, atol=1e-6)
        assert view.hidden == pytest.approx(1 - view.visible.sum() / view.extent[0], abs=1e-6)
        assert (view.visibility <= 1).all()
        assert view.extent[0] == view.extent[1:].sum()


def test_a_clean_view_shows_nearly_all_of_the_person(clean: list[PersonView]) -> None:
    for view in clean:
        assert (view.visible == (view.parts > 0)).all()
        assert view.hidden < 0.1
        assert 0.15 < view.visible.mean() < 0.7


def test_part_maps_are_ordered_from_head_to_feet(clean: list[PersonView]) -> None:
    for view in clean:
        rows = np.indices(view.parts.shape)[0]
        middle = {name: rows[view.parts == part].mean() for part, name in enumerate(PART_NAMES, start=1)}
        assert middle["head"] < middle["upper"] < middle["legs"] < middle["feet"]
        assert middle["head"] < middle["arms"] < middle["feet"]


@pytest.mark.parametrize("wardrobe", ["train", "test", "all"])
@pytest.mark.parametrize("occlusion", [*RANGES, (0.97, 0.99), (0.6, 0.62)])
def test_the_hidden_share_lies_in_the_range_asked_for(wardrobe, occlusion: tuple[float, float]) -> None:
    generator = PeopleGenerator(2, wardrobe=wardrobe)
    for identity in range(6):
        view = generator.view(identity, identity % 3, 0, occlusion)
        assert occlusion[0] <= view.hidden <= occlusion[1]


def test_occlusion_keeps_person_and_pose(generator: PeopleGenerator) -> None:
    for identity in range(6):
        whole, covered = generator.view(identity, 1, 0), generator.view(identity, 1, 0, (0.4, 0.6))
        assert (whole.parts == covered.parts).all()
        assert (whole.keypoints[:, :2] == covered.keypoints[:, :2]).all()
        assert not (covered.visible & ~whole.visible).any()
        untouched = np.abs(whole.image.astype(int) - covered.image)[covered.visible].mean()
        changed = np.abs(whole.image.astype(int) - covered.image)[whole.visible & ~covered.visible].mean()
        assert untouched < 12 < changed


def test_keypoint_flags_agree_with_the_masks(clean: list[PersonView], hidden: list[PersonView]) -> None:
    flags = set()
    for view in clean + hidden:
        for x, y, flag in view.keypoints:
            flags.add(float(flag))
            if flag == 0:
                assert (x, y) == (0, 0)
                continue
            assert 0 <= x <= 127
            assert 0 <= y <= 255
            assert flag == 1 or view.visible[int(y + 0.5), int(x + 0.5)]
    assert flags == {0.0, 1.0, 2.0}


def test_a_back_view_hides_the_face_and_a_front_view_shows_it(clean: list[PersonView]) -> None:
    eyes = [view.keypoints[1:3, 2].max() for view in clean]
    assert 1 in eyes
    assert 2 in eyes


def test_two_hundred_identities_all_differ_in_their_attributes() -> None:
    for wardrobe in ("train", "test", "all"):
        generator = PeopleGenerator(0, wardrobe=wardrobe)
        assert len({generator.appearance(identity).attributes for identity in range(200)}) == 200


@pytest.mark.parametrize("part", ["upper", "legs"])
def test_few_people_share_all_attributes_of_one_half(part: str) -> None:
    generator = PeopleGenerator(0, wardrobe="test")
    regions = [generator.appearance(identity).regions[part] for identity in range(300)]
    assert len(set(regions)) > 0.9 * len(regions)


def test_train_and_test_share_no_clothing_colour_and_no_thing_that_hides() -> None:
    assert not set(clothing("train")) & set(clothing("test"))
    assert not set(clothing("train").values()) & set(clothing("test").values())
    assert set(occluder_kinds("train")) & set(occluder_kinds("test")) == {"person"}
    assert set(occluder_kinds("all")) == set(KINDS)


def test_train_and_test_share_only_plain_cloth_and_common_garments() -> None:
    def worn(wardrobe) -> tuple[set[str], set[str]]:
        looks = [PeopleGenerator(0, wardrobe=wardrobe).appearance(identity) for identity in range(300)]
        patterns = {fabric.pattern for look in looks for fabric in (look.upper.fabric, look.legs.fabric)}
        pieces = {piece for look in looks for piece in (look.upper.chest, look.head.hat, look.legs.trim)}
        return patterns, pieces

    (train, train_pieces), (test, test_pieces) = worn("train"), worn("test")
    assert train & test == {"plain"}
    assert train_pieces & test_pieces <= {"", "none"}


def test_identities_of_other_seeds_and_wardrobes_are_other_people() -> None:
    looks = [
        PeopleGenerator(seed, wardrobe=wardrobe).appearance(identity)
        for seed in (0, 1)
        for wardrobe in ("train", "test", "all")
        for identity in range(40)
    ]
    assert len(set(looks)) == len(looks)


def test_cameras_render_the_same_clothes_differently(generator: PeopleGenerator) -> None:
    means = []
    for camera in range(6):
        view = generator.view(0, camera, 0)
        means.append(view.image[view.parts == 2].mean(axis=0))
    distances = [np.abs(a - b).max() for i, a in enumerate(means) for b in means[:i]]
    assert max(distances) > 15


def test_occlude_leaves_the_given_view_alone_and_stacks(generator: PeopleGenerator) -> None:
    view = generator.view(1, 1, 1)
    before = view.image.copy()
    once = generator.occlude(view, np.random.default_rng(1), 0.2, 0.4)
    twice = generator.occlude(once, np.random.default_rng(2), 0.5, 0.7)
    assert (view.image == before).all()
    assert 0.2 <= once.hidden <= 0.4
    assert 0.5 <= twice.hidden <= 0.7
    assert not (twice.visible & ~once.visible).any()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_kind_of_occluder_can_hide_somebody(generator: PeopleGenerator, kind: str) -> None:
    view = generator.occlude(generator.view(2, 0, 0), np.random.default_rng(0), 0.15, 0.45, kinds=(kind,))
    assert 0.15 <= view.hidden <= 0.45


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"seed": 0, "height": 20}, "64 to 1024.*got 20 x 128"),
        ({"seed": 0, "height": 64, "width": 200}, "at most twice the height"),
        ({"seed": 0, "wardrobe": "summer"}, "unknown wardrobe 'summer'; allowed: train, test, all"),
    ],
)
def test_generator_refuses_arguments_with_what_is_allowed(arguments, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PeopleGenerator(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 0, 0), "identity must be at least 0, got -1"),
        ((0, -2, 0), "camera must be at least 0, got -2"),
        ((0, 0, -3), "shot must be at least 0, got -3"),
        ((0, 0, 0, (0.6, 0.4)), "range"),
        ((0, 0, 0, (0.5, 0.51)), "at least 0.02 wide"),
        ((0, 0, 0, (0.5, 1.2)), "within"),
        ((0, 0, 0, (float("nan"), 0.5)), "within"),
    ],
)
def test_view_refuses_arguments_with_what_is_allowed(generator: PeopleGenerator, arguments, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generator.view(*arguments)


def test_occlude_refuses_what_it_cannot_do(generator: PeopleGenerator) -> None:
    view, rng = generator.view(0, 0, 0, (0.5, 0.6)), np.random.default_rng(0)
    with pytest.raises(ValueError, match="hidden already"):
        generator.occlude(view, rng, 0.1, 0.3)
    with pytest.raises(ValueError, match="unknown occluder kind 'dragon'; allowed: car"):
        generator.occlude(view, rng, 0.6, 0.8, kinds=("dragon",))
    with pytest.raises(ValueError, match="at least one"):
        generator.occlude(view, rng, 0.6, 0.8, kinds=())
    with pytest.raises(ValueError, match="128 x 64"):
        PeopleGenerator(0, 128, 64).occlude(view, rng, 0.6, 0.8)
    with pytest.raises(ValueError, match="identity must be at least 0"):
        generator.appearance(-1)
