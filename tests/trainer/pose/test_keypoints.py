from __future__ import annotations

import numpy as np
import pytest

from trainer.pose.keypoints import COCO17, OPENPOSE18, KeyPoints, target


def coco(**joints: tuple[float, float, float]) -> KeyPoints:
    points = np.zeros((17, 3), np.float32)
    for name, point in joints.items():
        points[COCO17.index(name.replace("_", " "))] = point
    return KeyPoints(points, "coco17")


def test_neck_is_the_mean_of_the_shoulders_confidence_included():
    person = coco(left_shoulder=(10, 20, 0.5), right_shoulder=(30, 24, 2.5)).to_openpose18()
    assert person.points[OPENPOSE18.index("neck")].tolist() == [20, 22, 1.5]


def test_neck_is_missing_when_a_shoulder_is():
    person = coco(left_shoulder=(10, 20, 0.9)).to_openpose18()
    assert person.points[OPENPOSE18.index("neck")].tolist() == [0, 0, 0]


def test_openpose_order_is_that_of_alphapose():
    numbered = KeyPoints(np.arange(51, dtype=np.float32).reshape(17, 3), "coco17").to_openpose18()
    # Of COCO: nose, (neck), right shoulder, elbow, wrist, left ones, right hip, knee, ankle, left ones, eyes, ears.
    order = [0, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3]
    assert (np.delete(numbered.points, 1, axis=0)[:, 0] / 3).tolist() == order


def test_layouts_convert_back_and_forth_without_loss():
    person = KeyPoints(np.random.default_rng(0).random((17, 3), np.float32), "coco17")
    assert np.array_equal(person.to_openpose18().to_coco17().points, person.points)
    assert person.to_coco17() is person


def test_target_is_the_person_with_the_most_joints_above_gamma():
    few = coco(nose=(1, 1, 5), left_eye=(1, 1, 5))
    many = coco(nose=(2, 2, 0.21), left_eye=(2, 2, 0.21), right_eye=(2, 2, 0.21))
    faint = coco(**{name.replace(" ", "_"): (3, 3, 0.2) for name in COCO17})  # at gamma, not above
    assert target([few, faint, many]) is many


def test_first_of_equal_people_is_the_target():
    first, second = coco(nose=(1, 1, 0.3)), coco(nose=(2, 2, 0.9))
    assert target([first, second]) is first
    assert target([second, first]) is second


def test_nobody_is_none():
    assert target([]) is None
    assert target([coco(nose=(1, 1, 0.2))]) is None


def test_zero_is_a_legal_coordinate():
    person = coco(nose=(0, 0, 0.9))
    assert person.kept().tolist() == [True] + 16 * [False]
    assert target([person]) is person


@pytest.mark.parametrize(
    ("points", "layout", "problem"),
    [
        (np.zeros((17, 3)), "coco17", "float64"),
        (np.zeros((18, 3), np.float32), "coco17", r"\(17, 3\).*got float32 \(18, 3\)"),
        (np.full((18, 3), np.nan, np.float32), "openpose18", "the nose is"),
        (np.full((18, 3), -1, np.float32), "openpose18", "confidences are at least 0; the nose"),
        (np.zeros((17, 3), np.float32), "coco18", "'coco18'; choose from"),
    ],
)
def test_wrong_key_points_are_refused(points, layout, problem):
    with pytest.raises(ValueError, match=problem):
        KeyPoints(points, layout)
