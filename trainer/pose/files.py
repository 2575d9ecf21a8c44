"""Key-point files: what AlphaPose and OpenPose write, read and written.

Two shapes of JSON:

- one file an image, ``{"people": [{"pose_keypoints_2d": [x, y, c, ...]}]}``: 54 numbers are ``openpose18``
  (AlphaPose's ``--format open``), 51 are ``coco17``;
- one file for many images, ``[{"image_id": ..., "keypoints": [51 numbers], "score": ...}]``: AlphaPose's default and
  COCO's result format.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainer.pose.errors import AnnotationError
from trainer.pose.keypoints import LAYOUTS, KeyPoints, Layout

_LAYOUT_OF: dict[int, Layout] = {3 * len(names): layout for layout, names in LAYOUTS.items()}


def parse_people(text: str | bytes, where: str) -> list[KeyPoints]:
    """All detections of one image's file, in its order.

    Args:
        text: the JSON.
        where: the file's name, for errors.

    Raises:
        AnnotationError: no JSON, or not of the one-image shape.
    """
    document = _json(text, where)
    people = document.get("people") if isinstance(document, dict) else None
    if not isinstance(people, list):
        raise AnnotationError(f'{where}: expected {{"people": [{{"pose_keypoints_2d": [...]}}]}}')
    found = []
    for i, person in enumerate(people):
        numbers = person.get("pose_keypoints_2d") if isinstance(person, dict) else None
        found.append(_keypoints(numbers, f"{where}, person {i}"))
    return found


def read_people(path: Path) -> list[KeyPoints]:
    """`parse_people` of a file; AnnotationError when it is not there."""
    try:
        return parse_people(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise AnnotationError(f"no key-points {path.name} in {path.parent}") from None


def read_results(path: Path) -> dict[str, list[KeyPoints]]:
    """All detections of a many-image file by ``image_id``, each image's in the file's order.

    Raises:
        AnnotationError: the file is missing, no JSON, or not of the many-image shape.
    """
    try:
        document = _json(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise AnnotationError(f"no key-points {path.name} in {path.parent}") from None
    if not isinstance(document, list):
        raise AnnotationError(f'{path}: expected [{{"image_id": ..., "keypoints": [...]}}]')
    found: dict[str, list[KeyPoints]] = {}
    for i, result in enumerate(document):
        if not isinstance(result, dict) or "image_id" not in result:
            raise AnnotationError(f"{path}, result {i}: no image_id")
        person = _keypoints(result.get("keypoints"), f"{path}, result {i}")
        found.setdefault(str(result["image_id"]), []).append(person)
    return found


def format_people(people: Iterable[KeyPoints]) -> str:
    """One image's file, as AlphaPose's ``--format open`` writes it: ``openpose18``, three decimals."""
    document = {
        "version": 1.0,
        "people": [
            {"pose_keypoints_2d": [round(float(value), 3) for value in person.to_openpose18().points.ravel()]}
            for person in people
        ],
    }
    return json.dumps(document)


def _json(text: str | bytes, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
        raise AnnotationError(f"{where} is no JSON: {error}") from error


def _keypoints(numbers: object, where: str) -> KeyPoints:
    if not isinstance(numbers, Sequence) or len(numbers) not in _LAYOUT_OF:
        got = f"{len(numbers)} values" if isinstance(numbers, Sequence) else type(numbers).__name__
        raise AnnotationError(f"{where}: expected 54 (openpose18) or 51 (coco17) numbers x, y, c; got {got}")
    try:
        points = np.array(numbers, np.float32).reshape(-1, 3)
        return KeyPoints(points, _LAYOUT_OF[len(numbers)])
    except (TypeError, ValueError) as error:
        raise AnnotationError(f"{where}: {error}") from error
