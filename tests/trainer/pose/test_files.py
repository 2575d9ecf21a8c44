from __future__ import annotations

import json

import numpy as np
import pytest

from trainer.pose import AnnotationError, KeyPoints
from trainer.pose.files import format_people, parse_people, read_people, read_results


def test_alphapose_file_of_one_image(tmp_path):
    path = tmp_path / "0001.c1.json"
    numbers = [float(i) for i in range(54)]
    path.write_text(json.dumps({"version": 0.1, "people": [{"pose_keypoints_2d": numbers}]}))
    (person,) = read_people(path)
    assert person.layout == "openpose18"
    assert person.points.ravel().tolist() == numbers


def test_fifty_one_numbers_are_coco():
    (person,) = parse_people(json.dumps({"people": [{"pose_keypoints_2d": [0.5] * 51}]}), "a")
    assert person.layout == "coco17"


def test_result_file_of_many_images(tmp_path):
    path = tmp_path / "alphapose-results.json"
    results = [
        {"image_id": "b.jpg", "category_id": 1, "keypoints": [1] * 51, "score": 2.9},
        {"image_id": 7, "category_id": 1, "keypoints": [2] * 51, "score": 1.0},
        {"image_id": "b.jpg", "category_id": 1, "keypoints": [3] * 51, "score": 0.5},
    ]
    path.write_text(json.dumps(results))
    found = read_results(path)
    assert {name: [person.points[0, 0] for person in people] for name, people in found.items()} == {
        "b.jpg": [1, 3],
        "7": [2],
    }


def test_what_is_written_is_read_back():
    points = np.random.default_rng(1).uniform(0, 100, (17, 3)).astype(np.float32).round(3)
    person = KeyPoints(points, "coco17")
    (again,) = parse_people(format_people([person]), "a")
    np.testing.assert_allclose(again.to_coco17().points, points, atol=6e-4)
    assert parse_people(format_people([]), "a") == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "a.json is no JSON"),
        ("[]", "expected"),
        ('{"people": [{}]}', "person 0: expected 54"),
        ('{"people": [{"pose_keypoints_2d": [1, 2, 3]}]}', "got 3 values"),
        (json.dumps({"people": [{"pose_keypoints_2d": [1] * 53 + ["x"]}]}), "person 0"),
        (json.dumps({"people": [{"pose_keypoints_2d": [1] * 53 + [-2]}]}), "at least 0"),
        ('{"people": [{"pose_keypoints_2d": [' + "1," * 53 + "NaN]}]}", "finite"),
    ],
)
def test_broken_file_is_an_error_that_names_it(text, problem):
    with pytest.raises(AnnotationError, match=problem) as caught:
        parse_people(text, "a.json")
    assert "a.json" in str(caught.value)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(AnnotationError, match=r"no key-points x\.json"):
        read_people(tmp_path / "x.json")
    with pytest.raises(AnnotationError, match=r"no key-points y\.json"):
        read_results(tmp_path / "y.json")


@pytest.mark.parametrize(("document", "problem"), [({}, "expected"), ([{"keypoints": []}], "result 0: no image_id")])
def test_broken_result_file_is_an_error(tmp_path, document, problem):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(document))
    with pytest.raises(AnnotationError, match=problem):
        read_results(path)
