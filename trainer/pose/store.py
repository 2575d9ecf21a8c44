"""`AnnotationStore`: what `glimpse datasets annotate` wrote, read back image by image.

    store = AnnotationStore(Path("annotations/market1501"))
    store.coverage(ids)                      # before training: what is missing, by name
    store.regions("bounding_box_train/0002_c1s1_000451_03.jpg")

The folder holds ``regions/ID.png``, ``keypoints/ID.json``, perhaps ``labels/ID.png``, and `RECORD`; ID is the image's
id without its suffix. A missing annotation is None, counted and named; a broken one is an error that names it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal, TypeVar, get_args

from glimpse.people import PARTS
from trainer.pose.errors import AnnotationError
from trainer.pose.files import read_people
from trainer.pose.keypoints import GAMMA, KeyPoints, target
from trainer.pose.regions import LIP20, UInt8, read_label_map

Kind = Literal["regions", "keypoints", "labels"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SUFFIXES: dict[Kind, str] = {"regions": ".png", "keypoints": ".json", "labels": ".png"}
RECORD = "annotations.json"
FORMAT = 1
_T = TypeVar("_T")


def annotation_path(root: Path, kind: Kind, image_id: str) -> Path:
    """Where an image's annotation lies.

    Raises:
        AnnotationError: the id is no relative path, or leads out of the folder.
    """
    path = PurePosixPath(image_id)
    if not path.name or path.is_absolute() or ".." in path.parts:
        raise AnnotationError(f"image id {image_id!r} is no relative path below the data set")
    # Not with_suffix: "a.b.jpg" is "a.b", and "a.b.png" must not replace ".b".
    return root / kind / path.parent / (path.stem + SUFFIXES[kind])


@dataclass(frozen=True)
class Coverage:
    """Which of some images have an annotation of one kind."""

    kind: Kind
    total: int
    missing: tuple[str, ...]

    def __str__(self) -> str:
        if not self.missing:
            return f"{self.kind}: all {self.total:,} images"
        shown = ", ".join(self.missing[:5]) + (", ..." if len(self.missing) > 5 else "")
        return f"{self.kind}: {self.total - len(self.missing):,} of {self.total:,} images; missing {shown}"


@dataclass
class AnnotationStore:
    """Read-only; safe to copy into worker processes, each of which counts for itself.

    Raises:
        AnnotationError: the folder holds no annotations, or ones of another format or with other regions.
    """

    root: Path
    gamma: float = GAMMA
    """Joints above this decide which detection is the image's person."""
    missing: dict[Kind, Counter[str]] = field(init=False)
    """Image ids that were asked for in vain, and how often."""
    record: dict[str, object] = field(init=False)
    """What `RECORD` says: model, settings, counts, versions."""

    def __post_init__(self) -> None:
        self.root = Path(self.root)
        self.missing = {kind: Counter() for kind in KINDS}
        self.record = read_record(self.root)
        regions = self.record.get("regions")
        if self.has("regions") and regions != list(PARTS[1:]):
            raise AnnotationError(f"{self.root} has the regions {regions}; expected {list(PARTS[1:])}")

    @property
    def fingerprint(self) -> str:
        """Hex digest of the model, its settings and the counts: changes whenever the folder was annotated anew."""
        return hashlib.sha256(json.dumps(self.record, sort_keys=True).encode()).hexdigest()

    @property
    def describe(self) -> str:
        """The model in a few words, for the facts beside a figure."""
        digest = str(self.record.get("model_sha256"))[:12]
        return f"{self.record.get('adapter')} ({self.record.get('model')}, sha256 {digest})"

    def has(self, kind: Kind) -> bool:
        """Whether the model that made this folder writes such annotations at all."""
        writes = self.record.get("writes")
        return isinstance(writes, list) and kind in writes

    def regions(self, image_id: str) -> UInt8 | None:
        """Label map ``(H, W)`` at the image's size: 0 background, 1..K the regions of `PARTS`; None if missing.

        Raises:
            AnnotationError: the file is broken.
        """
        return self._read("regions", image_id, lambda path: read_label_map(path, len(PARTS)))

    def labels(self, image_id: str) -> UInt8 | None:
        """LIP labels ``(H, W)`` at the image's size, for `LIP_TO_MSPR`; None if missing.

        Raises:
            AnnotationError: the file is broken.
        """
        return self._read("labels", image_id, lambda path: read_label_map(path, len(LIP20)))

    def people(self, image_id: str) -> list[KeyPoints] | None:
        """Every detection, the most confident first; None if missing.

        Raises:
            AnnotationError: the file is broken.
        """
        return self._read("keypoints", image_id, read_people)

    def keypoints(self, image_id: str) -> KeyPoints | None:
        """The person that the image is about (see `target`); None if missing or if the image shows nobody.

        Raises:
            AnnotationError: the file is broken.
        """
        people = self.people(image_id)
        return None if people is None else target(people, self.gamma)

    def coverage(self, image_ids: Iterable[str], kind: Kind = "regions") -> Coverage:
        """Which images have an annotation; looks at names only and counts nothing as asked for."""
        ids = list(image_ids)
        absent = tuple(image_id for image_id in ids if not annotation_path(self.root, kind, image_id).is_file())
        return Coverage(kind, len(ids), absent)

    def _read(self, kind: Kind, image_id: str, read: Callable[[Path], _T]) -> _T | None:
        path = annotation_path(self.root, kind, image_id)
        if not path.is_file():
            self.missing[kind][image_id] += 1
            return None
        return read(path)


def read_record(root: Path) -> dict[str, object]:
    """The folder's `RECORD`.

    Raises:
        AnnotationError: it is not there, broken, or of another format.
    """
    path = root / RECORD
    if not path.is_file():
        raise AnnotationError(f"{root} holds no {RECORD}; make one with `glimpse datasets annotate DATA --out {root}`")
    try:
        record = json.loads(path.read_bytes())
    except ValueError as error:
        raise AnnotationError(f"{path} is no JSON: {error}") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        found = record.get("format") if isinstance(record, dict) else type(record).__name__
        raise AnnotationError(f"{path} has format {found!r}; this version reads {FORMAT}")
    return record
