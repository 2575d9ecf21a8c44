"""Market-1501 (Zheng et al., ICCV 2015): its test part as queries and gallery."""

from __future__ import annotations

import re
from pathlib import Path

from trainer.data.listing import DatasetError, ImageSet, Listing, files

_NAME = re.compile(r"(-1|\d{4})_c([1-6])s\d_\d+_\d\d\.jpg(?:\.jpg)?")
_FOLDER = "Market-1501-v15.09.15"
EXPECTED = {"query": 3368, "bounding_box_test": 19732}


def list_market1501(path: str) -> Listing:
    """The standard single-query protocol.

    ``path`` is the folder with ``query`` and ``bounding_box_test``, or the one above it. Person -1 is dropped from
    the gallery, person 0 kept as a distractor; same person and same camera is left out by the metrics.

    Raises:
        DatasetError: a folder or its images are missing, or a file name is not Market-1501's.
    """
    given = Path(path).expanduser()
    root = next((f for f in (given, given / _FOLDER) if (f / "bounding_box_test").is_dir()), None)
    if root is None or not (root / "query").is_dir():
        raise DatasetError(f"Market-1501 was looked for in {given}: expected folders query and bounding_box_test")
    query, gallery = _read(root, "query"), _read(root, "bounding_box_test")
    counts = {"query": len(query), "bounding_box_test": len(gallery)}
    kept = gallery.take((gallery.people >= 0).nonzero()[0])
    facts = [
        f"{len(query)} queries, {len(kept)} gallery images ({len(gallery) - len(kept)} of person -1 dropped, "
        f"{int((kept.people == 0).sum())} of person 0 kept as distractors)",
        "single query; same person and same camera left out; camera ids are no input of the model",
    ]
    if counts != EXPECTED:
        facts.append(
            f"not the whole set: the original has {EXPECTED['query']} and {EXPECTED['bounding_box_test']} files"
        )
    return Listing("market1501", query, kept, tuple(facts))


def _read(root: Path, folder: str) -> ImageSet:
    paths = sorted((root / folder).glob("*.jpg"))
    if not paths:
        raise DatasetError(f"{root / folder} holds no .jpg files")
    people, cameras = [], []
    for path in paths:
        found = _NAME.fullmatch(path.name)
        if not found:
            raise DatasetError(f"{folder}/{path.name}: expected a name like 0001_c1s1_001051_00.jpg")
        people.append(int(found[1]))
        cameras.append(int(found[2]))
    return files(paths, root, people, cameras)
