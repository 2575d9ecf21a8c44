"""Glimpse's own gallery as a contender: the one place that knows how a `Catalog` is filled and asked."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.galleries.problem import Int64, SearchProblem
from glimpse.parts import PartFeatures
from server.errors import ServerError
from server.galleries.catalog import Catalog
from server.galleries.database import StoreError
from server.galleries.filters import Filter
from server.galleries.gallery import Gallery
from server.galleries.items import NewItem
from server.galleries.ranking import Ranking, SearchOptions
from server.galleries.searching import SearchTuning
from server.galleries.settings import GallerySettings

GALLERY = "bench"
DATA = "data"
"""Of a prepared folder: what a server is given as ``--data``."""
BATCH = 1_000
LATENCY_TARGET_US = 10_000
"""A gallery with a target holds what FAST chooses by beside what EXACT scans. AUTO itself is not measured."""
ROW_DIGITS = 8
"""At the end of an item's id."""
CAMERAS = 100
"""Cameras of the items, in turns: a filter on one of them keeps 1 %."""


class Ours:
    """A gallery of the problem's items; points ``fast`` and ``exact``."""

    points: Sequence[str] = ("fast", "exact")

    def __init__(self, problem: SearchProblem, threads: int, cache: Path) -> None:
        folder = prepared_folder(problem, cache) / DATA
        start = time.perf_counter()
        catalog = Catalog.open(folder, SearchTuning(0, threads))
        self.problem, self.catalog, self.gallery = problem, catalog, catalog.get(GALLERY)
        self.facts = {"open_seconds": time.perf_counter() - start}
        self._settle()
        self.facts["bytes_an_item"] = self.gallery.report().memory_bytes / len(problem)

    @classmethod
    def over(cls, problem: SearchProblem, catalog: Catalog, gallery: Gallery) -> Ours:
        """One that searches a gallery which is open already."""
        made = object.__new__(cls)
        made.problem, made.catalog, made.gallery, made.facts = problem, catalog, gallery, {}
        return made

    def search(self, point: str, queries: PartFeatures, top_k: int) -> Any:
        return self.ask(queries, SearchOptions(top_k=top_k, mode="exact" if point == "exact" else "fast"))

    def ask(self, queries: PartFeatures, options: SearchOptions) -> list[Ranking]:
        """One ranking a query; raises what a search would raise."""
        asked = [(queries[row : row + 1], options) for row in range(len(queries))]
        rankings: list[Ranking] = []
        for ranking in self.gallery.search_together(asked):
            if isinstance(ranking, ServerError):
                raise ranking
            rankings.append(ranking)
        return rankings

    def rows(self, found: Any) -> list[Int64]:
        return [np.array([int(item_id) for item_id in ranking.item_ids()], np.int64) for ranking in found]

    def close(self) -> None:
        self.catalog.close()

    def _settle(self) -> None:
        """Lets whatever is built in the background be built."""
        for _ in range(2):
            self.search("fast", self.problem.queries[:1], 10)
            self.catalog.drain()


def camera_filter(camera: int) -> Filter:
    """The items of one camera: 1 %."""
    return Filter(camera_ids=(str(camera),))


def new_items(problem: SearchProblem, rows: range, prefix: str = "") -> list[NewItem]:
    """Items as a caller hands them over; the id is the row."""
    return [
        NewItem(
            item_id=f"{prefix}{row:0{ROW_DIGITS}d}",
            vectors=np.array(problem.vectors[row]),
            visibility=problem.visibility[row],
            person_id=str(problem.people[row]),
            camera_id=str(row % CAMERAS),
        )
        for row in rows
    ]


def batches(problem: SearchProblem, size: int = BATCH) -> Iterator[list[NewItem]]:
    """All items, in batches."""
    for start in range(0, len(problem), size):
        yield new_items(problem, range(start, min(start + size, len(problem))))


def settings_of(problem: SearchProblem) -> GallerySettings:
    return GallerySettings(GALLERY, problem.schema, latency_target_us=LATENCY_TARGET_US)


def prepared_folder(problem: SearchProblem, cache: Path, told: Callable[[str], None] = print) -> Path:
    """A folder whose `DATA` is the problem's gallery: an earlier run's if it can still be opened, else a new one."""
    folder = cache / f"gallery-{problem.name}"
    if folder.is_dir() and not _usable(folder, len(problem)):
        shutil.rmtree(folder)
    if not folder.is_dir():
        told(f"filling a gallery of {len(problem):,} items, once")
        fill(folder, problem)
    return folder


def fill(folder: Path, problem: SearchProblem) -> None:
    """Stores all items as a client would have them stored; a folder is there only when it is complete."""
    fresh = folder.with_name(folder.name + ".filling")
    shutil.rmtree(fresh, ignore_errors=True)
    catalog = Catalog.open(fresh / DATA, SearchTuning(recall_every=0))
    try:
        gallery = catalog.create(settings_of(problem))
        for items in batches(problem):
            gallery.upsert(items)
        catalog.drain()
    finally:
        catalog.close()
    fresh.rename(folder)


def _usable(folder: Path, items: int) -> bool:
    try:
        catalog = Catalog.open(folder / DATA, SearchTuning(recall_every=0))
    except StoreError:
        return False
    try:
        galleries: list[Gallery] = catalog.list()
        held = [(one.settings.name, one.settings.latency_target_us, len(one)) for one in galleries]
        return held == [(GALLERY, LATENCY_TARGET_US, items)]
    finally:
        catalog.close()
