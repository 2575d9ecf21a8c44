"""A disk that fills up during each operation: no crash, no loss, reads go on, and writes resume by themselves."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from server.errors import AlreadyExists, ResourceExhausted, ServerError
from server.galleries.catalog import Catalog
from server.galleries.choosing import Order
from tests.crash.operations import OPERATIONS, State, contents, opened, prepare, state_of
from tests.server.galleries.generated import SCHEMA, gallery_settings, make_items, random_features
from tests.server.galleries.test_store import limit_pages

SMALLEST = 2_000
"""Bytes that are too few for whatever writes to the store."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared") / "data"
    prepare(folder)
    return folder


@pytest.fixture(scope="module")
def after(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], State]:
    """The state after an undisturbed operation."""

    def state(operation: str) -> State:
        folder = Path(shutil.copytree(prepared, tmp_path_factory.mktemp(operation) / "data"))
        catalog = opened(folder)
        OPERATIONS[operation](catalog)
        catalog.close()
        return state_of(folder)

    return state


@contextmanager
def small_files(size: int) -> Iterator[None]:
    """No file may grow beyond ``size`` bytes: the system refuses to write on, as it does when the disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def in_child(work: Callable[[], None]) -> int:
    """Runs in a process of its own, whose limits are not ours; its exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def check_goes_on(catalog: Catalog) -> None:
    """Galleries are read as before, or as after, and a further write is stored."""
    for gallery in catalog.list():
        assert len(contents(gallery)) == len(gallery)
    catalog.get("other").update("only", camera_id="still written")


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
@pytest.mark.parametrize("size", [SMALLEST, 30_000])
def test_files_that_cannot_grow_stop_an_operation_and_nothing_else(
    prepared: Path, tmp_path: Path, after: Callable[[str], State], operation: str, size: int
) -> None:
    folder = Path(shutil.copytree(prepared, tmp_path / "data"))

    def work() -> None:
        catalog = opened(folder)
        refused = None
        try:
            with small_files(size):
                OPERATIONS[operation](catalog)
        except ServerError as error:
            refused = error
        assert refused is not None or size > SMALLEST
        check_goes_on(catalog)
        catalog.expire(0)  # the upkeep finishes what is unfinished
        with suppress(AlreadyExists):
            OPERATIONS[operation](catalog)
        catalog.get("other").update("only", camera_id="")
        catalog.close()

    assert in_child(work) == 0
    assert state_of(folder) == after(operation)


WRITES: dict[str, Callable[[Catalog], object]] = {
    "upsert": lambda catalog: catalog.get("lobby").upsert(
        make_items(random_features(np.random.default_rng(1), SCHEMA, 3), ["victim-00", "new-0", "new-1"])
    ),
    "update": lambda catalog: catalog.get("lobby").update("victim-00", person_id="somebody"),
    "delete": lambda catalog: catalog.get("lobby").delete(item_ids=["victim-00", "victim-01"]),
    "create": lambda catalog: catalog.create(gallery_settings(name="fresh")),
    "drop": lambda catalog: catalog.delete("garage"),
    "unalias": lambda catalog: catalog.delete_alias("front"),
}
"""What is one transaction."""


@pytest.mark.parametrize("write", sorted(WRITES))
def test_a_write_without_room_is_refused_whole_and_succeeds_when_there_is_some(
    prepared: Path, tmp_path: Path, write: str
) -> None:
    folder = Path(shutil.copytree(prepared, tmp_path / "data"))

    def all_of(catalog: Catalog) -> object:
        return {gallery.settings.name: contents(gallery) for gallery in catalog.list()}, dict(catalog.aliases.all())

    def work() -> None:
        catalog = opened(folder)
        catalog.create(gallery_settings(name="garage")).upsert(
            make_items(random_features(np.random.default_rng(2), SCHEMA, 5))
        )
        before = all_of(catalog)
        with small_files(SMALLEST), pytest.raises(ResourceExhausted, match="writes are refused, searches go on"):
            WRITES[write](catalog)
        assert all_of(catalog) == before
        check_goes_on(catalog)
        WRITES[write](catalog)
        after = all_of(catalog)
        assert after != before
        catalog.close()
        catalog = opened(folder)
        assert all_of(catalog) == after
        catalog.close()

    assert in_child(work) == 0


@pytest.mark.parametrize("operation", ["erase", "restore", "migrate", "alias", "seal"])
def test_a_store_that_cannot_grow_refuses_and_resumes(
    prepared: Path, tmp_path: Path, after: Callable[[str], State], operation: str
) -> None:
    folder = Path(shutil.copytree(prepared, tmp_path / "data"))
    catalog = opened(folder)
    with catalog.database.read() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
    limit_pages(catalog, pages)
    refused = None
    try:
        OPERATIONS[operation](catalog)
    except ResourceExhausted as error:
        refused = error
    assert refused is not None or operation in ("alias", "seal", "erase")  # those need no more pages
    for gallery in catalog.list():
        assert len(contents(gallery)) == len(gallery)
    limit_pages(catalog, 1_000_000)
    catalog.expire(0)
    OPERATIONS[operation](catalog)
    catalog.close()
    assert state_of(folder) == after(operation)


def test_a_clock_that_is_set_back_loses_nothing_and_brings_nobody_back(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(prepared, tmp_path / "data"))
    now = time.time_ns()
    catalog = opened(folder)
    guests = catalog.create(gallery_settings(name="guests", retention_us=60_000_000))
    items = make_items(random_features(np.random.default_rng(0), SCHEMA, 4))
    guests.upsert(items[:2])
    monkeypatch.setattr(time, "time_ns", lambda: now - 86_400_000_000_000)
    sequence = guests.sequence
    guests.upsert(items[2:])
    assert guests.sequence == sequence + 1
    assert catalog.expire(time.time_ns() // 1000) == 0
    assert len(guests) == 4
    # Erased a day "before" the items and their backup were stored.
    catalog.custody.erase(Order("lobby", item_ids=("victim-05",)))
    restored = catalog.custody.restore("early", "again", replace=False, served=None)
    assert restored.gallery.snapshot.row_of("victim-05") is None
    catalog.close()
    catalog = opened(folder)
    assert len(catalog.get("guests")) == 4
    assert catalog.get("lobby").snapshot.row_of("victim-05") is None
    monkeypatch.undo()
    assert catalog.expire(time.time_ns() // 1000 + 1) == 2  # those that seem a day old
    catalog.close()
