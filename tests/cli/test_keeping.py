"""`glimpse erase`, `snapshot`, `restore`, `alias` and `migrate` against a real server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import Result

from tests.bundles import tiny_bundle
from tests.server.running import Running


@pytest.fixture
def running(tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    with Running(tmp_path / "data", bundle) as server:
        server.gallery("lobby", keep_images=True)
        server.crowd("lobby", 4)
        monkeypatch.setenv("GLIMPSE_SERVER", server.address)
        yield server


def test_a_person_is_erased_and_the_files_are_told(running: Running, glimpse: Callable[..., Result]) -> None:
    assert glimpse("snapshot", "create", "lobby", "--name", "first").exit_code == 0
    refused = glimpse("erase", "--person", "2", typed="n\n")
    assert refused.exit_code == 1
    assert "nothing was erased" in refused.stderr
    done = glimpse("erase", "--person", "2", "--yes")
    assert done.exit_code == 0, done.stderr
    assert "lobby: 2 items erased" in done.stdout
    assert "snapshots: 2 items taken out" in done.stdout
    assert "snapshots/first.snapshot: rewritten" in done.stdout
    again = glimpse("erase", "--gallery", "lobby", "--where", "camera=cam0", "--yes", "--json")
    assert json.loads(again.stdout)["erased"] == {"lobby": 3}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--item, --person or --where"),
        (("--where", "camera"), "expected KEY=VALUE"),
        (("--where", "shoe=1"), "unknown key 'shoe'"),
        (("--where", "after=yesterday"), "expected a time"),
    ],
)
def test_an_order_that_says_nothing_is_a_usage_error(
    glimpse: Callable[..., Result], arguments: tuple[str, ...], message: str
) -> None:
    result = glimpse("erase", *arguments, "--yes")
    assert result.exit_code == 2
    assert message in result.stderr


def test_snapshots_from_the_command_line(running: Running, glimpse: Callable[..., Result]) -> None:
    assert "no snapshots" in glimpse("snapshot", "list").stdout
    made = glimpse("snapshot", "create", "lobby", "--name", "first")
    assert "first: 8 items as of write 1" in made.stdout
    assert "first" in glimpse("snapshot", "list").stdout
    assert json.loads(glimpse("snapshot", "list", "--json").stdout)[0]["items"] == 8
    taken = glimpse("snapshot", "restore", "first")
    assert taken.exit_code == 1
    assert "exists already" in taken.stderr
    assert "restored gallery 'lobby' with 8 items" in glimpse("snapshot", "restore", "first", "--replace").stdout
    assert "restored gallery 'two'" in glimpse("snapshot", "restore", "first", "--into", "two").stdout
    assert glimpse("snapshot", "delete", "first").exit_code == 0
    missing = glimpse("snapshot", "delete", "../first")
    assert missing.exit_code == 1
    assert "snapshot name" in missing.stderr


def test_aliases_from_the_command_line(running: Running, glimpse: Callable[..., Result]) -> None:
    assert "no aliases" in glimpse("alias", "list").stdout
    assert "front -> lobby" in glimpse("alias", "set", "front", "lobby").stdout
    assert glimpse("alias", "list").stdout == "front -> lobby\n"
    assert glimpse("gallery", "show", "front").exit_code == 0
    assert glimpse("alias", "delete", "front").exit_code == 0
    assert "no alias 'front'" in glimpse("alias", "delete", "front").stderr


def test_a_gallery_is_migrated_from_the_command_line(
    running: Running, glimpse: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "say which alias" in glimpse("migrate", "lobby", "--into", "lobby-2").stderr
    glimpse("alias", "set", "front", "lobby")
    assert "of the served model" in glimpse("migrate", "front", "--into", "lobby-2").stderr
    running.stop()
    newer = tiny_bundle(tmp_path / "newer", version="2.0.0", seed=4).source
    with Running(tmp_path / "data", newer) as server:
        monkeypatch.setenv("GLIMPSE_SERVER", server.address)
        done = glimpse("migrate", "front", "--into", "lobby-2")
    assert done.exit_code == 0, done.stderr
    assert "'front' stands for 'lobby-2' now, with 8 items" in done.stdout


def test_a_damaged_store_begins_anew_from_its_snapshots(
    running: Running, glimpse: Callable[..., Result], tmp_path: Path, bundle: Path
) -> None:
    glimpse("snapshot", "create", "lobby", "--name", "first")
    data = tmp_path / "data"
    used = glimpse("restore", "--data", data)
    assert used.exit_code == 1
    assert "in use by another Glimpse server" in used.stderr
    running.stop()
    assert "is sound: nothing was done" in glimpse("restore", "--data", data).stderr
    store = (data / "glimpse.db").read_bytes()
    (data / "glimpse.db").write_bytes(store[: len(store) // 2])
    done = glimpse("restore", "--data", data)
    assert done.exit_code == 0, done.stderr
    assert "gallery 'lobby': 8 items from snapshot 'first'" in done.stdout
    with Running(data, bundle) as server:
        assert len(server.application.floor.catalog.get("lobby")) == 8
