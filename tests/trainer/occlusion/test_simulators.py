"""What each simulator draws: sizes, places, sources and shares of its paper, or those that its options ask for."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from glimpse.people import PeopleGenerator
from tests.trainer.occlusion.marked import LABEL, marked, scene
from trainer.data.annotated import Annotated
from trainer.occlusion import SIMULATORS, OccluderLibrary, SimulatorError, build_simulator
from trainer.occlusion.labels import CoverLabels

SIZE = (256, 128)
CLEAN = marked(*SIZE, 0, 0)
WHITE = np.full((*SIZE, 3), 255, np.uint8)


def drawn(name: str, options: dict, count: int = 200, other: np.ndarray = WHITE, **more) -> list[Annotated]:
    simulator = build_simulator(name, options, **more)
    return [simulator(CLEAN, other, np.random.default_rng(seed)) for seed in range(count)]


def boxes(samples: list[Annotated]) -> np.ndarray:
    return np.array([CoverLabels.of(sample.mask).box for sample in samples])  # [N, 4]: x, y, width, height


def places(samples: list[Annotated]) -> Counter[str]:
    return Counter(CoverLabels.of(sample.mask).place for sample in samples)


def library(*sizes: tuple[int, int]) -> OccluderLibrary:
    """Patches that are bright where they begin at the left, dark at the right."""
    ramps = [np.repeat(np.linspace(250, 5, w).astype(np.uint8)[None, :, None], h, 0).repeat(3, 2) for h, w in sizes]
    return OccluderLibrary(tuple(map(str, sizes)), ramps.__getitem__)


# AFPB


def test_background_patches_have_the_area_and_aspect_that_were_asked_for() -> None:
    samples = drawn("background", {"area": [0.1, 0.2], "aspect": [0.5, 2]})
    _, _, width, height = boxes(samples).T
    area, aspect = width * height / (SIZE[0] * SIZE[1]), height / width
    assert 0.097 < area.min() < 0.11
    assert 0.19 < area.max() < 0.203
    assert 0.48 < aspect.min() < 0.7
    assert 1.7 < aspect.max() < 2.05


def test_background_patches_lie_anywhere() -> None:
    x, y, width, height = boxes(drawn("background", {})).T
    assert x.min() <= 5
    assert (x + width).max() >= SIZE[1] - 5
    assert y.min() <= 5
    assert (y + height).max() >= SIZE[0] - 5


def test_background_comes_from_the_margins_never_from_the_middle() -> None:
    other = np.zeros((200, 100, 3), np.uint8)
    other[:, :20] = other[:, 80:] = other[:40] = 200  # the margins, and the upper corners with what is between them
    other[41:, 20:80] = 13
    other[:41, 41:59] = 13
    for sample in drawn("background", {"margin": 0.2}, other=other):
        assert set(np.unique(sample.image[sample.mask])) == {200}
    wide = drawn("background", {"margin": 0.35}, other=other)
    assert any((sample.image[sample.mask] != 200).any() for sample in wide)


# FED


def test_upright_patches_stand_left_or_right_at_full_height() -> None:
    samples = drawn("library", {}, library=library((90, 30)))
    assert set(places(samples)) == {"left", "right"}
    assert min(places(samples).values()) > 60
    widths = boxes(samples)[:, 2]
    assert (widths.min(), widths.max()) == (32, 64)


def test_other_patches_lie_at_the_top_or_bottom_at_full_width() -> None:
    samples = drawn("library", {}, library=library((60, 30), (20, 90)))  # twice as high as wide is not upright yet
    assert set(places(samples)) == {"top", "bottom"}
    assert min(places(samples).values()) > 60
    heights = boxes(samples)[:, 3]
    assert 64 <= heights.min() < 67
    assert 125 < heights.max() <= 128


def test_sizes_of_patches_scale_with_the_image() -> None:
    simulator = build_simulator("library", {}, library((90, 30)))
    small = [simulator(marked(128, 64, 0, 0), WHITE, np.random.default_rng(seed)) for seed in range(100)]
    widths = boxes(small)[:, 2]
    assert (widths.min(), widths.max()) == (16, 32)


def test_half_of_the_patches_are_mirrored_and_only_those_that_lie_change_colour() -> None:
    for size, jittered in (((90, 30), False), ((20, 90), True)):
        samples = drawn("library", {}, library=library(size))
        patches = [sample.image[sample.mask].reshape(*_extent(sample), 3).astype(int) for sample in samples]
        mirrored = [patch[:, 0].mean() < patch[:, -1].mean() for patch in patches]
        assert np.mean(mirrored) == pytest.approx(0.5, abs=0.12)
        brightness = [patch.mean() for patch in patches]
        assert (np.std(brightness) > 10) == jittered


def _extent(sample: Annotated) -> tuple[int, int]:
    _, _, width, height = CoverLabels.of(sample.mask).box
    return height, width


# T-MSPR


def test_cover_pastes_a_crop_over_a_side_and_then_a_box_of_noise() -> None:
    pasted = drawn("cover", {"erase": 0, "colour": 0})
    assert all((sample.image[sample.mask] == 255).all() for sample in pasted)
    _, _, width, height = boxes(pasted).T
    upright = height == SIZE[0]
    assert (width[~upright] == SIZE[1]).all()
    assert upright.any()
    assert 32 <= width[upright].min() <= width[upright].max() <= 64
    assert 64 <= height[~upright].min() <= height[~upright].max() <= 128
    both = drawn("cover", {"colour": 0})
    for one, two in zip(pasted, both, strict=True):
        assert two.mask[one.mask].all()
    added = np.array([(two.mask & (two.image != 255).any(axis=2)).mean() for two in both])
    assert added.min() > 0.015
    assert added.max() < 0.34


def test_cover_pastes_before_normalisation_so_that_colours_stay_the_crops() -> None:
    sample = drawn("cover", {"erase": 0, "colour": 0}, count=1, other=np.full((90, 40, 3), 90, np.uint8))[0]
    assert sample.image.dtype == np.uint8
    assert (sample.image[sample.mask] == 90).all()


def test_amplify_shows_a_part_larger_with_black_beyond_the_padding() -> None:
    before = Annotated(WHITE, {"regions": np.full(SIZE, 3, np.uint8)}, np.array([[63.5, 127.5, 1]], np.float32))
    simulator = build_simulator("amplify", {})
    samples = [simulator(before, WHITE, np.random.default_rng(seed)) for seed in range(200)]
    growth = np.array([sample.growth for sample in samples])
    padded = (256 + 60) * (128 + 60) / (256 * 128)
    assert growth.min() > 1 / padded
    assert 6 < growth.max() < 1.03 / (0.08 * padded)
    black = np.array([(sample.image[..., 0] == 0).mean() for sample in samples])
    assert black.min() == 0
    assert black.max() > 0.2
    for sample in samples:
        assert ((sample.image[..., 0] > 127) == (sample.maps["regions"] == 3)).mean() > 0.98


def test_amplifying_the_whole_image_changes_nothing_and_a_half_doubles_it_where_it_is() -> None:
    before = marked(*SIZE, 100, 40, 9, 9)
    whole = build_simulator("amplify", {"pad": [0, 0], "area": [1, 1], "ratio": [0.5, 0.5]})
    same = whole(before, WHITE, np.random.default_rng(0))
    np.testing.assert_array_equal(same.image, before.image)
    np.testing.assert_array_equal(same.maps["regions"], before.maps["regions"])
    half = build_simulator("amplify", {"pad": [0, 0], "area": [0.25, 0.25], "ratio": [0.5, 0.5]})
    seen = 0
    for seed in range(20):
        double = half(before, WHITE, np.random.default_rng(seed))
        assert double.growth == pytest.approx(4)
        if double.points[0, 2]:
            seen += 1
            # Magnified about the crop's edge, a pixel's centre comes to lie between the two it becomes.
            assert double.points[0, :2] % 1 == pytest.approx([0.5, 0.5])
    assert seen > 3


def test_shrink_keeps_the_middle_and_repeats_the_border() -> None:
    before = Annotated(WHITE, {"regions": np.full(SIZE, 3, np.uint8)}, np.array([[63.5, 127.5, 1]], np.float32))
    simulator = build_simulator("shrink", {})
    for seed in range(50):
        sample = simulator(before, WHITE, np.random.default_rng(seed))
        assert 0.63 < sample.growth <= 1
        assert (sample.image == 255).all()
        np.testing.assert_allclose(sample.points[0, :2], [63.5, 127.5], atol=1e-3)
        assert (sample.maps["regions"] == 3).mean() == pytest.approx(sample.growth, abs=0.02)


# Random erasing


@pytest.mark.parametrize("stride", [4, 8, 16])
def test_erased_labels_are_those_of_the_erased_pixels_at_every_stride(stride: int) -> None:
    before = Annotated(WHITE, {"regions": np.full(SIZE, 3, np.uint8)})
    simulator = build_simulator("erasing", {"area": [0.1, 0.4]})
    for seed in range(50):
        small = simulator(before, WHITE, np.random.default_rng(seed)).resize(SIZE[0] // stride, SIZE[1] // stride)
        # A cell is one colour or the other, but for those on the edge of the box.
        seen, grey = small.image[..., 0] == 255, small.image[..., 0] == 124
        assert (small.maps["regions"][seen] == 3).all()
        assert (small.maps["regions"][grey] == 0).all()
        assert (seen | grey).mean() > 0.4
        assert grey.any()


def test_erasing_fills_with_what_was_asked_for() -> None:
    def filled(fill: str) -> np.ndarray:
        sample = drawn("erasing", {"fill": fill, "area": [0.3, 0.4]}, count=1)[0]
        return sample.image[sample.mask]

    assert np.unique(filled("mean"), axis=0).tolist() == [[124, 116, 104]]
    mean = np.rint(CLEAN.image.mean(axis=(0, 1))).tolist()
    assert np.unique(filled("image"), axis=0).tolist() == [mean]
    assert len(np.unique(filled("colour"), axis=0)) == 1
    noise = filled("noise")
    assert noise.mean() == pytest.approx(127.5, abs=5)
    assert 90 < noise.std() < 127.5  # normal with deviation 127.5, cut off at 0 and 255


def test_erased_area_and_aspect_are_those_of_the_paper() -> None:
    _, _, width, height = boxes(drawn("erasing", {})).T
    area = width * height / (SIZE[0] * SIZE[1])
    assert 0.018 < area.min() < 0.05
    assert 0.35 < area.max() < 0.405
    assert (height / width).min() > 0.28
    assert (height / width).max() < 3.5


# Strips and boxes


def test_strips_cover_the_bottom_twice_as_often_as_any_other_side() -> None:
    samples = drawn("strip", {}, count=600)
    counts = places(samples)
    assert counts["bottom"] == pytest.approx(240, abs=45)
    for name in ("top", "left", "right"):
        assert counts[name] == pytest.approx(120, abs=38)
    shares = np.array([sample.mask.mean() for sample in samples])
    assert 0.295 <= shares.min() < 0.31
    assert 0.59 < shares.max() <= 0.605


def test_strips_show_a_margin_stretched_across_them() -> None:
    other = np.full((100, 50, 3), 13, np.uint8)
    other[:, :10], other[:, 40:] = 200, 220
    seen = [np.unique(sample.image[sample.mask]).tolist() for sample in drawn("strip", {"margin": 0.2}, other=other)]
    assert sorted(map(tuple, {tuple(values) for values in seen})) == [(200,), (220,)]
    rows = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 128, 1).repeat(3, 2)
    for sample in drawn("strip", {}, count=40, other=rows):
        x, y, _, height = CoverLabels.of(sample.mask).box
        ramp = sample.image[y : y + height, x, 0].astype(int)
        assert (np.diff(ramp) == 1).all()  # rows keep their scale


def test_boxes_are_sides_or_boxes_of_pieces_or_colours() -> None:
    samples = drawn("box", {}, count=400, other=scene(*SIZE, seed=8))
    kinds = places(samples)
    assert kinds["box"] > 200  # half of them, and rounded sides
    assert kinds["bottom"] > max(kinds["top"], kinds["left"], kinds["right"])
    plain = [not np.ptp(sample.image[sample.mask], axis=0).any() for sample in samples]
    assert np.mean(plain) == pytest.approx(0.3, abs=0.08)
    shares = np.array([sample.mask.mean() for sample in samples])
    assert shares.min() > 0.02
    assert shares.max() < 0.61
    sizes = boxes(samples)[:, 2] * boxes(samples)[:, 3]
    full = [sample.mask.sum() for sample in samples] == sizes
    assert np.mean(full) == pytest.approx(0.7, abs=0.08)  # the rest are ellipses


# Other people


@pytest.fixture(scope="module")
def somebody() -> Annotated:
    view = PeopleGenerator(seed=1).view(identity=2, camera=0, shot=0)
    return Annotated(view.image, {"regions": view.parts * view.visible}, view.keypoints)


@pytest.mark.parametrize("overlap", [(0.1, 0.2), (0.3, 0.3), (0.5, 0.7)])
def test_somebody_else_hides_the_share_that_was_asked_for(somebody: Annotated, overlap: tuple[float, float]) -> None:
    simulator = build_simulator("person", {"overlap": list(overlap)})
    person = somebody.maps["regions"] > 0
    hidden = []
    for seed in range(30):
        sample = simulator(somebody, WHITE, np.random.default_rng(seed))
        hidden.append((sample.mask & person).sum() / person.sum())
    low, high = overlap
    assert np.mean([low - 0.03 <= share <= high + 0.03 for share in hidden]) >= 0.9
    assert np.mean(hidden) == pytest.approx((low + high) / 2, abs=0.05)


def test_somebody_else_comes_from_either_side_in_the_shape_of_a_person(somebody: Annotated) -> None:
    simulator = build_simulator("person", {"overlap": [0.3, 0.3]})
    samples = [simulator(somebody, WHITE, np.random.default_rng(seed)) for seed in range(30)]
    middles = np.array([np.flatnonzero(sample.mask.any(axis=0)).mean() for sample in samples])
    assert (middles < 64).any()
    assert (middles > 64).any()
    for sample in samples:
        _, _, width, height = CoverLabels.of(sample.mask).box
        assert sample.mask.sum() < 0.9 * width * height
        assert len(np.unique(sample.image[sample.mask], axis=0)) > 20


def test_somebody_else_can_be_cut_from_the_other_image(somebody: Annotated) -> None:
    cut_out = np.zeros((100, 60, 4), np.uint8)
    cut_out[10:95, 20:45] = (10, 200, 30, 255)
    simulator = build_simulator("person", {"source": "other", "overlap": [0.3, 0.4]})
    sample = simulator(somebody, cut_out, np.random.default_rng(0))
    assert sample.mask.any()
    inside = sample.image[sample.mask].astype(int)
    assert np.abs(np.median(inside, axis=0) - (10, 200, 30)).max() <= 1
    with pytest.raises(SimulatorError, match=r"needs images \(h, w, 4\), got \(256, 128, 3\)"):
        simulator(somebody, WHITE, np.random.default_rng(0))
    with pytest.raises(SimulatorError, match="without a person"):
        simulator(somebody, np.zeros((9, 9, 4), np.uint8), np.random.default_rng(0))


def test_where_nobody_knows_the_person_the_middle_of_the_image_is_hidden() -> None:
    unknown = Annotated(scene(*SIZE), {"regions": np.full(SIZE, 255, np.uint8)})
    sample = build_simulator("person", {"overlap": [0.4, 0.4]})(unknown, WHITE, np.random.default_rng(3))
    middle = np.zeros(SIZE, np.bool_)
    middle[12:248, 25:102] = True
    assert (sample.mask & middle).sum() / middle.sum() == pytest.approx(0.4, abs=0.04)


# The registry


def test_every_simulator_says_whose_it_is_and_what_it_does() -> None:
    for name, spec in SIMULATORS.items():
        assert spec.target.startswith(f"trainer.occlusion.{name}:")
        assert spec.paper
        assert spec.summary
        assert spec.load().Options.model_fields["probability"].default == 1.0
        for key, field in spec.load().Options.model_fields.items():
            assert field.description, f"{name}.{key}"


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("clouds", {}, r"unknown simulator 'clouds'; choose from \['amplify', 'background', 'box'"),
        ("strip", {"ration": [0, 1]}, r"'strip' has no option 'ration'; its options are \['growing', 'margin', 'prob"),
        ("strip", {"ratio": [0.6, 0.3]}, "'strip', option 'ratio': expected two shares in order"),
        ("strip", {"ratio": [0.3, 1.3]}, r"within \[0, 1\], got \[0.3, 1.3\]"),
        ("strip", {"ratio": 0.3}, "option 'ratio'.*got 0.3"),
        ("background", {"aspect": [0, 3]}, "two numbers above 0"),
        ("erasing", {"fill": "rainbow"}, "option 'fill'.*got 'rainbow'"),
        ("box", {"probability": 1.5}, "option 'probability'.*less than or equal to 1"),
    ],
)
def test_what_cannot_be_built_is_refused_in_a_sentence(name: str, options: dict, sentence: str) -> None:
    with pytest.raises(SimulatorError, match=sentence):
        build_simulator(name, options)


def test_a_marked_person_is_hidden_where_the_mask_says() -> None:
    sample = build_simulator("strip", {"ratio": [1, 1]})(marked(8, 8, 3, 3), WHITE, np.random.default_rng(0))
    assert sample.mask.all()
    assert not (sample.maps["regions"] == LABEL).any()
