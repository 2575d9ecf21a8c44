from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from tests.trainer.pose.networks import REGION_COLOURS, painted, toy_bodypix, toy_pixels
from trainer.pose import AnnotationError
from trainer.pose.framing import Frame, interpolate
from trainer.pose.keypoints import COCO17
from trainer.pose.models import ADAPTERS, open_annotator
from trainer.pose.models.constants import with_constant_weights
from trainer.pose.regions import LIP20

NOSE = COCO17.index("nose")


@pytest.fixture(scope="module")
def bodypix(tmp_path_factory):
    return toy_bodypix(tmp_path_factory.mktemp("models") / "bodypix.onnx")


def spot(x: int, y: int, height: int = 128, width: int = 64, radius: int = 5) -> np.ndarray:
    """A white spot on a red person."""
    image = np.full((height, width, 3), REGION_COLOURS[1], np.uint8)
    cv2.circle(image, (x, y), radius, (255, 255, 255), -1)
    return image


@given(
    st.tuples(st.integers(4, 300), st.integers(4, 300)),
    st.tuples(st.integers(16, 400), st.integers(16, 400)),
    st.sampled_from([0.0, 0.2, 1.0]),
    st.floats(-5, 400),
)
def test_frame_maps_there_and_back(size, room, margin, position):
    frame = Frame.fit(size, room, margin)
    for axis in (0, 1):
        there = frame.to_input(np.array([position], np.float32), axis)
        assert frame.to_crop(there, axis)[0] == pytest.approx(position, abs=0.02)
        assert 0 <= frame.offset[axis] <= room[axis] - frame.content[axis]


def test_frame_keeps_the_aspect_and_leaves_room():
    frame = Frame.fit((128, 64), (256, 256), margin=0.5)
    assert frame == Frame((128, 64), (128, 64), (64, 96), (256, 256))
    image = np.full((128, 64, 3), 200, np.uint8)
    assert (frame.image(image) == 200).all()
    assert (frame.image(image, cv2.BORDER_CONSTANT)[:64] == 0).all()


def test_interpolation_by_hand():
    grid = np.array([[0, 4], [8, 12]], np.float32)[..., None]
    middle = np.array([[0.5, 0.5]], np.float32)
    left = np.array([[1, 0]], np.float32)
    assert interpolate(grid, middle, middle)[0, 0, 0] == 6
    assert interpolate(grid, middle, left)[0, 0, 0] == 4


@pytest.mark.parametrize("size", [(128, 64), (256, 128), (90, 70), (700, 300)])
@pytest.mark.parametrize("mirror", [False, True])
def test_bodypix_finds_regions_where_they_are(bodypix, size, mirror):
    image, regions = painted(*size)
    annotator = open_annotator("bodypix", bodypix, {"sizes": (224, 288), "mirror": mirror})
    (annotation,) = annotator.annotate([image])
    found = annotation.regions
    assert found.shape == regions.shape
    assert found.dtype == np.uint8
    # A cell is 16 of about 256 pixels high; only borders between regions may differ, by half of that.
    reach = max(1, round(size[0] * 0.045))
    inner = cv2.erode(regions, np.ones((2 * reach + 1,) * 2)) == cv2.dilate(regions, np.ones((2 * reach + 1,) * 2))
    assert set(regions[inner].tolist()) == set(range(6))
    assert (found[inner] == regions[inner]).mean() > 0.999


def test_bodypix_of_a_mirrored_crop_is_mirrored(bodypix):
    image, _ = painted()
    annotator = open_annotator("bodypix", bodypix, {"mirror": True})
    straight, mirrored = annotator.annotate([image, np.ascontiguousarray(image[:, ::-1])])
    assert (straight.regions[:, ::-1] == mirrored.regions).mean() == 1


@given(st.integers(6, 57), st.integers(6, 121))
def test_bodypix_finds_a_joint_where_it_is(bodypix, x, y):
    annotator = open_annotator("bodypix", bodypix, {"sizes": (224, 288)})
    (annotation,) = annotator.annotate([spot(x, y)])
    found = annotation.people[0].points[NOSE]
    assert abs(found[0] - x) <= 6  # the toy says nothing finer than the spot
    assert abs(found[1] - y) <= 6
    assert found[2] > 0.3
    assert annotation.people[0].points[1:, 2].max() < 0.01


def test_bodypix_moves_joints_by_the_offsets_and_mirrors_them(tmp_path):
    # 9 down and 18 to the right in the input, where a crop of 128 x 64 has 257 x 129 pixels.
    down, right = 9 * 128 / 257, 18 * 64 / 129
    image = spot(30, 60)
    settings = {"sizes": [256], "mirror": False}
    plain = toy_bodypix(tmp_path / "plain.onnx")
    moving = toy_bodypix(tmp_path / "moving.onnx", offsets=(9, 18))
    (before,) = open_annotator("bodypix", plain, settings).annotate([image])
    (after,) = open_annotator("bodypix", moving, settings).annotate([image])
    step = after.people[0].points[NOSE] - before.people[0].points[NOSE]
    np.testing.assert_allclose(step, [right, down, 0], atol=1e-3)
    # Mirrored, 18 to the right is 18 to the left: on average none.
    settings["mirror"] = True
    (before,) = open_annotator("bodypix", plain, settings).annotate([image])
    (after,) = open_annotator("bodypix", moving, settings).annotate([image])
    step = after.people[0].points[NOSE] - before.people[0].points[NOSE]
    assert step[1] == pytest.approx(down, abs=1e-3)
    assert abs(step[0]) < 1.5


def test_bodypix_swaps_left_and_right_of_the_mirrored_crop(tmp_path):
    left = COCO17.index("left wrist")
    model = toy_bodypix(tmp_path / "left.onnx", joint=left)
    (annotation,) = open_annotator("bodypix", model, {"mirror": True}).annotate([spot(20, 60)])
    confidence = annotation.people[0].points[:, 2]
    # The toy calls every spot a left wrist: half of the views are mirrored and say right.
    assert confidence[left] == pytest.approx(confidence[COCO17.index("right wrist")], abs=0.05)
    assert confidence[left] > 0.15


def test_bodypix_threshold_is_a_probability(bodypix):
    image = np.full((128, 64, 3), 30, np.uint8)  # logit 17 + 3 * 8 * (30 / 127.5 - 1) = -1.35, so 0.21
    for threshold, person in ((0.15, True), (0.27, False)):
        (annotation,) = open_annotator("bodypix", bodypix, {"threshold": threshold}).annotate([image])
        assert bool(annotation.regions.any()) == person
        assert bool(annotation.regions.all()) == person


POSE = {"maps": np.array([[1 / 3, 1 / 3, 1 / 3, 0]] + [[0, 0, 0, -1]] * 16, np.float32)}
PLAIN = {"mean": (0, 0, 0), "std": (1, 1, 1)}


@pytest.mark.parametrize("batch", ["n", 1, 4])
def test_pose_model_finds_joints_whatever_its_batch(tmp_path, batch):
    model = toy_pixels(tmp_path / "pose.onnx", POSE, batch=batch)
    images = []
    for x, y in ((10, 20), (40, 100), (50, 64)):
        image = np.zeros((128, 64, 3), np.uint8)
        cv2.circle(image, (x, y), 9, (255, 255, 255), -1)
        images.append(cv2.GaussianBlur(image, (0, 0), 5))
    annotations = open_annotator("heatmaps17", model, PLAIN).annotate(images)
    for annotation, (x, y) in zip(annotations, ((10, 20), (40, 100), (50, 64)), strict=True):
        assert annotation.regions is None
        (person,) = annotation.people
        # Input 64 x 32 halves the crop and a cell is 4 pixels of it, 8 of the crop.
        np.testing.assert_allclose(person.points[NOSE, :2], (x, y), atol=4.5)
        assert person.points[NOSE, 2] > 0.5
        assert (person.points[1:, 2] == 0).all()


def test_pose_maximum_moves_a_quarter_of_a_cell():
    from trainer.pose.models.heatmaps17 import _joints

    maps = np.zeros((17, 16, 8), np.float32)
    maps[0, 5, 3], maps[0, 6, 3], maps[0, 5, 2] = 1, 0.5, 0.5
    maps[1, 0, 0], maps[1, 1, 1] = 1, 0.5  # at the border: no move
    points = _joints(maps, Frame((64, 32), (64, 32), (0, 0), (64, 32)))
    assert points[0].tolist() == [(3 - 0.25) * 4, (5 + 0.25) * 4, 1]
    assert points[1].tolist() == [0, 0, 1]


def test_parser_gives_labels_and_regions_at_the_size_of_the_crop(tmp_path):
    # Red is hat, green is coat, the rest background; the input's 33 x 17 pixels end on cells.
    weights = np.zeros((20, 4), np.float32)
    weights[:, 3] = -1
    weights[0, 3] = 0.2
    weights[LIP20.index("hat"), :] = (2, -1, 0, -1)
    weights[LIP20.index("coat"), :] = (-1, 2, 0, -1)
    model = toy_pixels(tmp_path / "lip.onnx", {"labels": weights}, size=(33, 17))
    image = np.zeros((132, 68, 3), np.uint8)
    image[:66] = (255, 0, 0)
    image[66:, :34] = (0, 255, 0)
    (annotation,) = open_annotator("lip20", model, PLAIN).annotate([image])
    assert annotation.people is None
    assert annotation.labels.shape == annotation.regions.shape == (132, 68)
    sure = 12
    for rows, columns, label, region in (
        (slice(sure, 66 - sure), slice(None), 1, 1),
        (slice(66 + sure, None), slice(0, 34 - sure), 7, 2),
        (slice(66 + sure, None), slice(34 + sure, None), 0, 0),
    ):
        assert (annotation.labels[rows, columns] == label).all()
        assert (annotation.regions[rows, columns] == region).all()


def test_channels_come_in_the_order_the_model_wants(tmp_path):
    weights = np.zeros((20, 4), np.float32)
    weights[1, 0] = 1  # hat where the first channel is bright
    weights[7, 2] = 1  # coat where the third is
    model = toy_pixels(tmp_path / "lip.onnx", {"labels": weights}, size=(33, 17))
    red = np.full((132, 68, 3), (255, 0, 0), np.uint8)
    for bgr, label in ((False, 1), (True, 7)):
        (annotation,) = open_annotator("lip20", model, {**PLAIN, "bgr": bgr}).annotate([red])
        assert (annotation.labels == label).all()


def test_margin_shows_the_mean_colour(tmp_path):
    weights = np.zeros((20, 4), np.float32)
    weights[1] = (0.5, 0.5, 0.5, 0)
    model = toy_pixels(tmp_path / "lip.onnx", {"labels": weights}, size=(33, 17))
    annotator = open_annotator("lip20", model, {"margin": 0.5})
    (annotation,) = annotator.annotate([np.full((132, 68, 3), 255, np.uint8)])
    assert (annotation.labels[20:-20, 10:-10] == 1).all()


@pytest.mark.parametrize("adapter", list(ADAPTERS))
def test_wrong_models_are_refused_with_what_was_expected(tmp_path, adapter):
    with pytest.raises(AnnotationError, match="no model"):
        open_annotator(adapter, tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("not a model")
    with pytest.raises(AnnotationError, match="cannot be loaded"):
        open_annotator(adapter, tmp_path / "text.onnx")
    other = toy_pixels(tmp_path / "other.onnx", {"out": np.zeros((5, 4), np.float32)})
    with pytest.raises(AnnotationError, match=r"expected an? "):
        open_annotator(adapter, other)


def test_size_is_asked_for_where_the_model_leaves_it_open(tmp_path):
    model = toy_pixels(tmp_path / "any.onnx", POSE, size=("h", "w"))
    with pytest.raises(AnnotationError, match="say which: size=HEIGHT,WIDTH"):
        open_annotator("heatmaps17", model)
    image = np.zeros((128, 64, 3), np.uint8)
    assert open_annotator("heatmaps17", model, {"size": "64,32"}).annotate([image])[0].people
    fixed = toy_pixels(tmp_path / "fixed.onnx", POSE)
    with pytest.raises(AnnotationError, match="fixed input of 64 x 32, not 128 x 64"):
        open_annotator("heatmaps17", fixed, {"size": (128, 64)})


def test_unknown_adapters_and_settings_are_refused_with_the_choices(bodypix):
    with pytest.raises(AnnotationError, match=r"'openpose'; choose from \['bodypix'"):
        open_annotator("openpose", bodypix)
    with pytest.raises(AnnotationError, match=r"colour: .*it has sizes, margin, mirror, threshold"):
        open_annotator("bodypix", bodypix, {"colour": 1})
    with pytest.raises(AnnotationError, match="threshold: Input should be less than 1"):
        open_annotator("bodypix", bodypix, {"threshold": "1.5"})


def test_a_model_that_fails_midway_says_so(tmp_path):
    weights = {"maps": np.zeros((17, 4), np.float32)}
    model = toy_pixels(tmp_path / "any.onnx", weights, size=("h", "w"))
    annotator = open_annotator("heatmaps17", model, {"size": (64, 32)})
    annotator._graph._input = "other"
    with pytest.raises(AnnotationError, match=r"any\.onnx does not run"):
        annotator.annotate([np.zeros((64, 32, 3), np.uint8)])


def with_weights_as_inputs(path: Path) -> bytes:
    """The model as converters wrote it before ONNX IR 4."""
    model = onnx.load(path)
    for weights in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(weights.name, weights.data_type, weights.dims))
    model.ir_version = 3
    return model.SerializeToString()


def test_weights_among_the_inputs_become_constants(bodypix, tmp_path):
    mended = onnx.load_from_string(with_constant_weights(with_weights_as_inputs(bodypix)))
    original = onnx.load(bodypix)
    assert [value.name for value in mended.graph.input] == ["input"]
    assert mended.ir_version == 4
    assert mended.graph.node == original.graph.node
    assert mended.graph.initializer == original.graph.initializer
    assert mended.graph.output == original.graph.output
    # And a model without such inputs stays as it is.
    assert onnx.load_from_string(with_constant_weights(bodypix.read_bytes())) == original


def test_old_and_new_model_files_say_the_same(bodypix, tmp_path):
    old = tmp_path / "old.onnx"
    old.write_bytes(with_weights_as_inputs(bodypix))
    image, _ = painted()
    answers = [open_annotator("bodypix", path).annotate([image])[0] for path in (bodypix, old)]
    assert np.array_equal(answers[0].regions, answers[1].regions)
    np.testing.assert_allclose(answers[0].people[0].points, answers[1].people[0].points, atol=1e-3)


@pytest.mark.parametrize("damage", [slice(0, 40), slice(0, -1), slice(1, None)])
def test_what_is_no_protobuf_is_refused(bodypix, damage):
    with pytest.raises(ValueError, match="no protobuf message"):
        with_constant_weights(bodypix.read_bytes()[damage])
