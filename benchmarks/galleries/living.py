"""What a gallery does besides being searched: filters, items added while searches run, an index built again.

Every function works on a gallery of `ours.prepared_folder`, is meant for `alone`, and answers with JSON.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.galleries.ours import (
    BATCH,
    CAMERAS,
    DATA,
    GALLERY,
    LATENCY_TARGET_US,
    ROW_DIGITS,
    Ours,
    batches,
    camera_filter,
    new_items,
    prepared_folder,
    settings_of,
)
from benchmarks.galleries.problem import Int64, open_problem
from benchmarks.galleries.truth import ranked, unlike
from server.galleries.catalog import Catalog
from server.galleries.items import Batch
from server.galleries.ranking import SearchOptions
from server.galleries.searching import SearchTuning
from server.galleries.segments.folder import SegmentFolder
from server.galleries.settings import GallerySettings
from server.galleries.store import Store

CAMERA = 7
CHECKED = 32
MODES = ("fast", "exact")
PACE = 20_500.0
"""Items a second added to the index alone: a little more than the goal, which a pace that is kept just misses."""
PACED = 4
"""So many times the items of the store are added to the index alone, which is done as much sooner."""
DERIVED = ("segments", "snapshots")
"""Folders of a data folder that hold what can be built again."""


def filtered(problem_folder: Path, cache: Path, rounds: int, turn_seconds: float) -> dict[str, Any]:
    """Seconds of an exact search over all items and over the 1 % of one camera, turn by turn, and wrong rankings."""
    problem = open_problem(problem_folder)
    ours = Ours(problem, 1, cache)
    try:
        choices = {
            "all": SearchOptions(top_k=10, mode="exact"),
            "one camera": SearchOptions(top_k=10, mode="exact", filter=camera_filter(CAMERA)),
        }
        seconds: dict[str, list[float]] = {name: [] for name in choices}
        for _ in range(rounds):
            for name, options in choices.items():
                seconds[name].append(float(np.mean(_latencies(ours, options, turn_seconds))))
        some = problem.queries[:CHECKED]
        right = ranked(problem, some, np.arange(len(problem)) % CAMERAS == CAMERA)
        found = ours.rows(ours.ask(some, SearchOptions(top_k=100, mode="exact", filter=camera_filter(CAMERA))))
        return {"seconds": seconds, "unlike_the_oracle": unlike(found, right.rows, right.distance)}
    finally:
        ours.close()


class Unstored(Store):
    """A store that takes new items and keeps none: what is left of an upsert is what it costs the index."""

    def upsert(self, gallery: int, batch: Batch, sequence: int, images: Sequence[bytes | None] | None) -> Batch:
        return dataclasses.replace(batch, checksums=np.zeros(len(batch), np.uint32))

    def row_ids(self, gallery: int, item_ids: Sequence[str]) -> Int64:
        return np.array([int(item_id[-ROW_DIGITS:]) for item_id in item_ids], np.int64)


def growing(problem_folder: Path, cache: Path, items: int, idle_seconds: float, pace: float = PACE) -> dict[str, Any]:
    """Latencies of one caller's searches, idle and while another thread adds ``items``: for each mode committed to the
    store, as fast as that goes (``store``), and into the index alone, at most ``pace`` a second (``index``)."""
    problem = open_problem(problem_folder)
    source = prepared_folder(problem, cache)
    told: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=cache, prefix="growing-") as folder:
        shutil.copytree(source / DATA, Path(folder) / DATA)
        catalog = Catalog.open(Path(folder) / DATA, SearchTuning(recall_every=0))
        try:
            told["store"] = _growing(Ours.over(problem, catalog, catalog.get(GALLERY)), items, idle_seconds, None)
        finally:
            catalog.close()
    with tempfile.TemporaryDirectory(dir=cache, prefix="growing-") as folder:
        catalog = Catalog(Unstored(folder), SegmentFolder(Path(folder)), SearchTuning(recall_every=0))
        try:
            gallery = catalog.create(settings_of(problem))
            for batch in batches(problem):
                gallery.upsert(batch)
            told["index"] = _growing(Ours.over(problem, catalog, gallery), PACED * items, idle_seconds, pace)
        finally:
            catalog.close()
    return told


def _growing(ours: Ours, items: int, idle_seconds: float, pace: float | None) -> dict[str, Any]:
    told: dict[str, Any] = {}
    rows = len(ours.problem) // BATCH * BATCH
    for place, mode in enumerate(MODES):
        options = SearchOptions(top_k=10, mode=mode)
        ours.catalog.drain()
        ours.ask(ours.problem.queries[:1], options)
        ours.catalog.drain()
        idle = _latencies(ours, options, idle_seconds)
        starts = range(0, min(items, rows), BATCH)
        fresh = [new_items(ours.problem, range(start, start + BATCH), f"new{place}-") for start in starts]
        busy, added, seconds = _while_adding(ours, options, fresh, pace)
        told[mode] = {"idle": idle, "busy": busy, "items": added, "seconds": seconds}
    return told


def rebuilt(problem_folder: Path, cache: Path) -> dict[str, Any]:
    """What opening costs with the index as it was left, and from the store alone."""
    problem = open_problem(problem_folder)
    source = prepared_folder(problem, cache) / DATA
    told: dict[str, Any] = {"opened": _opened(source, problem.queries, len(problem))}
    with tempfile.TemporaryDirectory(dir=cache, prefix="rebuilding-") as folder:
        bare = Path(folder) / DATA
        shutil.copytree(source, bare, ignore=shutil.ignore_patterns(*DERIVED))
        told["rebuilt"] = _opened(bare, problem.queries, len(problem))
    return told


def sized(problem_folder: Path, cache: Path, items: int) -> dict[str, float]:
    """Bytes of memory an item takes in a gallery of each kind that holds the first ``items`` of the problem."""
    problem = open_problem(problem_folder)
    kinds: dict[str, dict[str, Any]] = {
        "exact": {},
        "both": {"latency_target_us": LATENCY_TARGET_US},
        "fast_only": {"compact": True},
    }
    told = {}
    with tempfile.TemporaryDirectory(dir=cache, prefix="sizing-") as folder:
        catalog = Catalog.open(Path(folder) / DATA, SearchTuning(recall_every=0))
        try:
            for kind, settings in kinds.items():
                gallery = catalog.create(GallerySettings(kind, problem.schema, **settings))
                for start in range(0, items, BATCH):
                    gallery.upsert(new_items(problem, range(start, min(start + BATCH, items))))
                catalog.drain()
                told[kind] = gallery.report().memory_bytes / items
        finally:
            catalog.close()
    return told


def _opened(folder: Path, queries: Any, items: int) -> dict[str, float]:
    start, cpu = time.perf_counter(), time.process_time()
    catalog = Catalog.open(folder, SearchTuning(recall_every=0))
    try:
        gallery = catalog.get(GALLERY)
        opened = time.perf_counter() - start
        gallery.search(queries[:1], SearchOptions(mode="fast"))
        catalog.drain()
        used = time.process_time() - cpu
        return {
            "open_seconds": opened,
            "ready_seconds": time.perf_counter() - start,
            "cpu_us_an_item": 1e6 * used / items,
            "bytes_an_item": gallery.report().memory_bytes / items,
        }
    finally:
        catalog.close()


def _latencies(ours: Ours, options: SearchOptions, seconds: float) -> list[float]:
    """Searches one after the other for some time, at least 7."""
    begin = time.perf_counter()
    return _searched(ours, options, lambda count: count < 7 or time.perf_counter() < begin + seconds)


def _searched(ours: Ours, options: SearchOptions, go_on: Callable[[int], bool]) -> list[float]:
    took: list[float] = []
    queries = ours.problem.queries
    while go_on(len(took)):
        place = len(took) % len(queries)
        start = time.perf_counter()
        ours.ask(queries[place : place + 1], options)
        took.append(time.perf_counter() - start)
    return took


def _while_adding(
    ours: Ours, options: SearchOptions, fresh: list[Any], pace: float | None
) -> tuple[list[float], int, float]:
    failure: list[BaseException] = []
    took: list[float] = []

    def add() -> None:
        try:
            start = time.perf_counter()
            added = 0
            for batch in fresh:
                if pace is not None:
                    time.sleep(max(0.0, start + added / pace - time.perf_counter()))
                ours.gallery.upsert(batch)
                added += len(batch)
            took.append(time.perf_counter() - start)
        except BaseException as error:
            failure.append(error)

    writer = threading.Thread(target=add)
    writer.start()
    busy = _searched(ours, options, lambda _: writer.is_alive())
    writer.join()
    if failure:
        raise failure[0]
    return busy, sum(map(len, fresh)), took[0]
