"""Formats of the store: an older one is brought up to date in one transaction, and works."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from server.galleries import database
from server.galleries.catalog import Catalog
from server.galleries.database import APPLICATION_ID, FILE, Database, StoreError
from server.galleries.tables import FORMAT, TABLES, Table, make_tables, missing_tables
from tests.server.galleries.generated import SCHEMA, gallery_settings, make_items, random_features


def version_of(folder: Path) -> int:
    with closing(sqlite3.connect(folder / FILE)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def names_of(folder: Path) -> set[str]:
    with closing(sqlite3.connect(folder / FILE)) as connection:
        return {
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'index')")
        }


def kind_of(name: str) -> str:
    return "INDEX" if TABLES[name].statements[0].startswith("CREATE INDEX") else "TABLE"


def filled(folder: Path) -> None:
    """A store with one gallery of three items."""
    with closing(Catalog.open(folder)) as catalog:
        features = random_features(np.random.default_rng(0), SCHEMA, 3)
        catalog.create(gallery_settings()).upsert(make_items(features, ["a", "b", "c"]))


def of_format_1(folder: Path) -> None:
    """A store with one gallery of three items, as a server of format 1 left it."""
    filled(folder)
    with closing(sqlite3.connect(folder / FILE)) as connection:
        for name, table in TABLES.items():
            if table.since > 1:
                connection.execute(f"DROP {kind_of(name)} {name}")
        connection.execute("PRAGMA user_version = 1")


def test_a_store_of_format_1_opens_works_and_is_of_this_format_then(tmp_path: Path) -> None:
    of_format_1(tmp_path)
    assert {"galleries", "items", "images"} <= names_of(tmp_path)
    assert "audit" not in names_of(tmp_path)
    with closing(Catalog.open(tmp_path)) as catalog:
        (gallery,) = catalog.list()
        assert len(gallery) == 3
        gallery.delete(item_ids=["a"])
    assert version_of(tmp_path) == FORMAT
    assert set(TABLES) <= names_of(tmp_path)
    with closing(Catalog.open(tmp_path)) as catalog:
        assert len(catalog.list()[0]) == 2


def test_an_upgrade_that_breaks_off_leaves_the_old_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_format_1(tmp_path)
    before = names_of(tmp_path)

    def broken(connection: sqlite3.Connection, version: int) -> None:
        make_tables(connection, version)
        raise sqlite3.OperationalError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(database, "make_tables", broken)
        with pytest.raises(StoreError, match="the disk is gone"):
            Database(tmp_path)
    assert (version_of(tmp_path), names_of(tmp_path)) == (1, before)
    with closing(Catalog.open(tmp_path)) as catalog:
        assert len(catalog.list()[0]) == 3


def test_a_new_store_has_every_table_and_this_format(tmp_path: Path) -> None:
    Database(tmp_path).close()
    assert version_of(tmp_path) == FORMAT
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        assert missing_tables(connection) == []
        assert connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID


def test_the_files_of_a_new_store_are_their_owners_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with closing(Database(tmp_path)):
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(old)
    assert FILE in modes
    assert f"{FILE}-wal" in modes
    assert set(modes.values()) == {0o600}


@pytest.mark.parametrize("name", TABLES)
def test_a_store_that_lost_a_table_is_refused_by_name(tmp_path: Path, name: str) -> None:
    filled(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        connection.execute(f"DROP {kind_of(name)} {name}")
    with pytest.raises(StoreError, match=f"damaged .*no table '{name}'"):
        Database(tmp_path)


@pytest.mark.parametrize("since", [0, FORMAT + 1])
def test_a_table_of_an_unknown_format_is_an_error(since: int) -> None:
    with pytest.raises(ValueError, match=f"got {since}"):
        Table(since, ("CREATE TABLE x (y)",))
