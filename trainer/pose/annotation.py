"""Runs a pose or parsing model over images and writes what an `AnnotationStore` reads. Resumable."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from glimpse import __version__
from glimpse.images import Image, ImageError
from glimpse.people import PARTS
from trainer.data.listing import DatasetError, ImageSet
from trainer.pose.errors import AnnotationError
from trainer.pose.files import format_people
from trainer.pose.models import ADAPTERS, Annotation, Annotator, open_annotator
from trainer.pose.store import FORMAT, KINDS, RECORD, Kind, annotation_path, read_record
from trainer.pose.summary import Summary, summarise

BATCH = 8
"""Images that one thread takes at a time; models with an open batch size run them as one."""


@dataclass
class Report:
    """What became of the images of one run."""

    images: int = 0
    annotated: int = 0
    present: int = 0
    """Annotated by an earlier run."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Image id to the reason why it has no annotation."""
    summary: Summary = field(default_factory=lambda: Summary(0))
    """Of the whole folder, earlier runs included."""


def annotate(
    images: ImageSet,
    adapter: str,
    model: Path,
    out: Path,
    *,
    options: Mapping[str, object] | None = None,
    workers: int | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Report:
    """Annotates every image that ``out`` has no annotation of.

    Args:
        images: what to annotate; ids become file names.
        adapter: a key of `ADAPTERS`.
        model: an ONNX file.
        out: a folder, made if it is missing.
        options: changes to the adapter's settings.
        workers: threads; as many as there are cores if None.
        advance: called once an image, from one thread.

    Raises:
        AnnotationError: two images with one id but for the suffix; an unusable model; a folder that another model or
            other settings made.
    """
    _refuse_collisions(images.ids)
    annotator = open_annotator(adapter, model, options)
    writes = [kind for kind in KINDS if kind in ADAPTERS[adapter].writes]
    record, before = _begin(out, adapter, model, annotator, writes)
    report = Report(images=len(images))
    waiting = []
    for row, image_id in enumerate(images.ids):
        if all(annotation_path(out, kind, image_id).is_file() for kind in writes):
            report.present += 1
            advance()
        else:
            waiting.append(row)
    chunks = [waiting[start : start + BATCH] for start in range(0, len(waiting), BATCH)]
    with ThreadPoolExecutor(workers or _cores()) as pool:
        for done in _in_order(pool, chunks, lambda rows: _run(images, rows, annotator, out)):
            for image_id, problem in done.items():
                if problem is None:
                    report.annotated += 1
                else:
                    report.skipped[image_id] = problem
                advance()
    report.summary = _finish(out, {**record, "complete": True}, before, report, writes[0])
    return report


def _run(images: ImageSet, rows: Sequence[int], annotator: Annotator, out: Path) -> dict[str, str | None]:
    """Annotates a few images; the reason for each that could not be read, None for the others."""
    outcome: dict[str, str | None] = {}
    loaded: dict[str, Image] = {}
    for row in rows:
        image_id = images.ids[row]
        try:
            loaded[image_id] = images.load(row)
            outcome[image_id] = None
        except (ImageError, DatasetError, OSError) as error:
            outcome[image_id] = str(error)
    if loaded:
        annotations = annotator.annotate(list(loaded.values()))
        for (image_id, image), annotation in zip(loaded.items(), annotations, strict=True):
            _write(out, image_id, image, annotation)
    return outcome


def _write(out: Path, image_id: str, image: Image, annotation: Annotation) -> None:
    contents: dict[Kind, bytes] = {}
    maps: tuple[tuple[Kind, Any], ...] = (("regions", annotation.regions), ("labels", annotation.labels))
    for kind, labels in maps:
        if labels is not None:
            if labels.shape != image.shape[:2] or labels.dtype != np.uint8:
                raise AssertionError(f"{kind} of {image_id} are {labels.dtype} {labels.shape}, not {image.shape[:2]}")
            contents[kind] = cv2.imencode(".png", labels)[1].tobytes()
    if annotation.people is not None:
        contents["keypoints"] = format_people(annotation.people).encode()
    for kind, data in contents.items():
        _replace(annotation_path(out, kind, image_id), data)


def _replace(path: Path, data: bytes) -> None:
    """Writes beside and renames: whoever finds the file finds all of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    staging.write_bytes(data)
    staging.replace(path)


def _in_order(
    pool: ThreadPoolExecutor,
    chunks: Sequence[Sequence[int]],
    run: Callable[[Sequence[int]], dict[str, str | None]],
    ahead: int = 32,
) -> Iterator[dict[str, str | None]]:
    """Results chunk by chunk; an error cancels what has not begun."""
    pending: deque[Future[dict[str, str | None]]] = deque()
    try:
        for chunk in chunks:
            pending.append(pool.submit(run, chunk))
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def _refuse_collisions(ids: Sequence[str]) -> None:
    places = Counter(annotation_path(Path(), "regions", image_id) for image_id in ids)
    place, count = next(iter(places.most_common(1)), (None, 0))
    if count > 1:
        same = [image_id for image_id in ids if annotation_path(Path(), "regions", image_id) == place]
        raise AnnotationError(f"images {same} differ in their suffix only; their annotations would be one file")


def _begin(
    out: Path, adapter: str, model: Path, annotator: Annotator, writes: list[Kind]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The record of a run, written before the first image so that a second run can be held against it.

    Returns the record, and what earlier runs had skipped.
    """
    import onnxruntime

    identity: dict[str, Any] = {
        "adapter": adapter,
        "model_sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "settings": annotator.settings.model_dump(mode="json"),
    }
    before: dict[str, str] = {}
    if (out / RECORD).is_file():
        old = read_record(out)
        changed = [name for name, value in identity.items() if old.get(name) != value]
        if changed:
            differences = "; ".join(f"{name} {old.get(name)} then, {identity[name]} now" for name in changed)
            raise AnnotationError(f"{out} was made otherwise: {differences}. Choose another --out, or remove it")
        skipped = old.get("skipped")
        before = skipped if isinstance(skipped, dict) else {}
    record = {
        "format": FORMAT,
        **identity,
        "model": model.name,
        "writes": writes,
        "regions": list(PARTS[1:]) if "regions" in writes else None,
        "layout": "openpose18" if "keypoints" in writes else None,
        "versions": {
            "glimpse": __version__,
            "onnxruntime": onnxruntime.__version__,
            "opencv": cv2.__version__,
            "numpy": np.__version__,
        },
        "complete": False,
    }
    out.mkdir(parents=True, exist_ok=True)
    _write_record(out, {**record, "skipped": before})
    return record, before


def _finish(out: Path, record: dict[str, Any], before: dict[str, str], report: Report, kind: Kind) -> Summary:
    """Counts everything in the folder: a data set may be annotated in several runs."""
    skipped = {
        image_id: reason
        for image_id, reason in {**before, **report.skipped}.items()
        if not annotation_path(out, kind, image_id).is_file()
    }
    summary = summarise(out)
    counts = {"annotated": summary.images, "seen": summary.seen, "joints": summary.joints, "skipped": skipped}
    _write_record(out, {**record, **counts})
    return summary


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _write_record(out: Path, record: dict[str, Any]) -> None:
    _replace(out / RECORD, (json.dumps(record, indent=2) + "\n").encode())
