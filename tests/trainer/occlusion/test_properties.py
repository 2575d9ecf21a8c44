"""What holds for every simulator: alignment, determinism, and images of any size."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.occlusion.marked import check_block, check_covered, check_single, check_strides, marked, scene
from trainer.data.annotated import Annotated
from trainer.occlusion import SIMULATORS, Simulator, build_simulator

GEOMETRIC = ("amplify", "shrink")
COVERING = sorted(SIMULATORS.keys() - set(GEOMETRIC))
VARIANTS = {
    **{name: (name, {}) for name in sorted(SIMULATORS)},
    "erasing-noise": ("erasing", {"fill": "noise"}),
    "erasing-colour": ("erasing", {"fill": "colour"}),
    "erasing-image": ("erasing", {"fill": "image"}),
    "strip-nothing": ("strip", {"ratio": [0, 0]}),
    "strip-all": ("strip", {"ratio": [1, 1]}),
    "box-ellipse": ("box", {"ellipse": 1, "side": 0}),
    "person-most": ("person", {"overlap": [0.9, 1]}),
}
SIZES = ((1, 1), (3, 200), (200, 3), (128, 64), (384, 128))
OTHERS = ((1, 1), (5, 3), (40, 300), (128, 64))
OTHER = scene(150, 70, seed=3)
FEW = settings(max_examples=25, deadline=None)


def built(variant: str) -> Simulator:
    name, options = VARIANTS[variant]
    return build_simulator(name, options)


def assert_same(one: Annotated, two: Annotated) -> None:
    np.testing.assert_array_equal(one.image, two.image)
    np.testing.assert_array_equal(one.mask, two.mask)
    np.testing.assert_array_equal(one.points, two.points)
    for name in one.maps:
        np.testing.assert_array_equal(one.maps[name], two.maps[name])


@pytest.mark.parametrize("name", COVERING)
@FEW
@given(st.integers(0, 127), st.integers(0, 63), st.integers(0, 2**32))
def test_a_marked_pixel_stays_marked_unless_it_is_covered(name: str, y: int, x: int, seed: int) -> None:
    before = marked(128, 64, y, x)
    after = build_simulator(name, {})(before, OTHER, np.random.default_rng(seed))
    check_single(after)
    check_strides(after)
    assert (after.image[~after.mask] == before.image[~after.mask]).all()
    assert after.growth == 1


@pytest.mark.parametrize("name", GEOMETRIC)
@FEW
@given(st.integers(0, 80), st.integers(0, 40), st.integers(0, 2**32))
def test_a_marked_block_moves_as_one(name: str, top: int, left: int, seed: int) -> None:
    after = build_simulator(name, {})(marked(128, 64, top, left, 41, 21), OTHER, np.random.default_rng(seed))
    check_block(after, slack=1)
    check_strides(after)
    assert after.covered is None


steps = st.lists(st.sampled_from(["flip", "turn", "resize", *sorted(SIMULATORS)]), min_size=1, max_size=6)


@settings(max_examples=80, deadline=None)
@given(steps, st.integers(0, 2**32))
def test_a_marked_block_stays_marked_through_any_chain(chain: list[str], seed: int) -> None:
    random = np.random.default_rng(seed)
    sample, slack = marked(128, 64, 40, 16, 49, 31), 0.0
    for step in chain:
        before = sample.growth
        if step == "flip":
            sample = sample.flip()
        elif step == "turn":
            angle = random.uniform(-0.3, 0.3)
            matrix = np.array([[math.cos(angle), -math.sin(angle), 5], [math.sin(angle), math.cos(angle), -5]])
            sample = sample.warp(matrix)
        elif step == "resize":
            height, width = (16 * int(n) for n in random.integers([4, 2], [12, 6]))
            sample = sample.resize(height, width)
        else:
            sample = build_simulator(step, {})(sample, OTHER, random)
        if step in ("turn", "resize", *GEOMETRIC):
            # Labels move by whole pixels, colours do not: half a pixel a step, magnified by every later one.
            slack = slack * max(1.0, 1.4 * math.sqrt(sample.growth / before)) + 1
        check_block(sample, math.ceil(slack))
    check_strides(sample)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_images_of_any_size_are_hidden_within_their_bounds(variant: str, size: tuple[int, int]) -> None:
    simulator = built(variant)
    before = marked(*size, size[0] // 2, size[1] // 2)
    for seed in range(6):
        other = scene(*OTHERS[seed % len(OTHERS)], seed=7)
        after = simulator(before, other, np.random.default_rng(seed), progress=seed / 5)
        assert after.size == size
        assert after.image.dtype == np.uint8
        check_covered(after)
        if VARIANTS[variant][0] not in GEOMETRIC:
            assert (after.image[~after.mask] == before.image[~after.mask]).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_equal_generators_give_equal_samples_and_others_do_not(variant: str) -> None:
    before = marked(128, 64, 60, 30, 8, 8)
    drawn = [built(variant)(before, OTHER, np.random.default_rng(seed)) for seed in (0, 0, 1, 2, 3)]
    assert_same(drawn[0], drawn[1])
    differ = any((drawn[0].image != other.image).any() for other in drawn[2:])
    assert differ == (not variant.endswith("nothing"))


@pytest.mark.parametrize("name", sorted(SIMULATORS))
def test_probability_and_progress_decide_how_often_it_acts(name: str) -> None:
    before = marked(64, 32, 30, 15)
    rates = {}
    for probability, growing, progress in (
        (0, False, 1),
        (0.5, False, 0),
        (1, True, 0),
        (1, True, 0.3),
        (0.5, True, 1),
    ):
        simulator = build_simulator(name, {"probability": probability, "growing": growing})
        random = np.random.default_rng(1)
        acted = [simulator(before, OTHER, random, progress) is not before for _ in range(150)]
        rates[probability, growing, progress] = np.mean(acted)
    assert rates[0, False, 1] == 0
    assert rates[1, True, 0] == 0
    assert rates[0.5, False, 0] == pytest.approx(0.5, abs=0.13)
    assert rates[1, True, 0.3] == pytest.approx(0.3, abs=0.12)
    assert rates[0.5, True, 1] == pytest.approx(0.5, abs=0.13)


@pytest.mark.parametrize("name", sorted(name for name, spec in SIMULATORS.items() if not spec.needs_other))
def test_simulators_that_need_no_other_image_do_not_look_at_it(name: str) -> None:
    before, simulator = marked(64, 32, 30, 15), build_simulator(name, {})
    black = np.zeros((1, 1, 3), np.uint8)
    assert_same(simulator(before, OTHER, np.random.default_rng(4)), simulator(before, black, np.random.default_rng(4)))


@pytest.mark.parametrize("name", sorted(SIMULATORS))
def test_simulators_are_frozen_and_can_be_sent_to_workers(name: str) -> None:
    import dataclasses
    import pickle

    simulator = build_simulator(name, {})
    with pytest.raises(dataclasses.FrozenInstanceError):
        simulator.options = None  # type: ignore[attr-defined]
    before = marked(64, 32, 30, 15)
    copy = pickle.loads(pickle.dumps(simulator))
    assert_same(copy(before, OTHER, np.random.default_rng(2)), simulator(before, OTHER, np.random.default_rng(2)))
