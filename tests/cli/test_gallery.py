"""`glimpse gallery`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta

import pytest
import typer
from typer.testing import Result

from glimpse.cli.quantities import parse_duration, size
from tests.client.fake_server import FakeServer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30d", timedelta(days=30)),
        ("12h", timedelta(hours=12)),
        ("1.5m", timedelta(seconds=90)),
        ("10s", timedelta(seconds=10)),
        ("50ms", timedelta(milliseconds=50)),
    ],
)
def test_durations_are_a_number_and_a_unit(text: str, expected: timedelta) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize("text", ["30", "d", "-1d", "1 week", "1d12h"])
def test_other_durations_are_usage_errors(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="such as 30d"):
        parse_duration(text)


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB")])
def test_sizes_are_readable(count: int, text: str) -> None:
    assert size(count) == text


def test_a_gallery_is_made_as_asked(glimpse: Callable[..., Result], server: FakeServer) -> None:
    result = glimpse(
        *("gallery", "create", "lobby", "--keep-images", "--retention", "30d"),
        *("--require-purpose", "--latency-target", "50ms", "--compact"),
        server=server,
    )
    assert result.exit_code == 0, result.stderr
    (request,) = server.requests
    assert request.keep_images
    assert request.retention.ToTimedelta() == timedelta(days=30)
    assert request.require_purpose
    assert request.latency_target.ToTimedelta() == timedelta(milliseconds=50)
    assert request.compact


def test_galleries_are_listed_as_a_table_and_as_json(glimpse: Callable[..., Result], server: FakeServer) -> None:
    assert "no galleries" in glimpse("gallery", "list", server=server).stdout
    glimpse("gallery", "create", "yard", server=server)
    glimpse("gallery", "create", "lobby", server=server)
    lines = glimpse("gallery", "list", server=server).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["gallery", "lobby", "yard"]
    entries = json.loads(glimpse("gallery", "list", "--json", server=server).stdout)
    assert [(entry["name"], entry["items"], entry["model"]["name"]) for entry in entries] == [
        ("lobby", 0, "fake"),
        ("yard", 0, "fake"),
    ]


def test_showing_a_gallery_names_its_parts(glimpse: Callable[..., Result], server: FakeServer) -> None:
    glimpse("gallery", "create", "lobby", "--retention", "1d", server=server)
    shown = glimpse("gallery", "show", "lobby", server=server).stdout
    assert "global:2, upper:2" in shown
    entry = json.loads(glimpse("gallery", "show", "lobby", "--json", server=server).stdout)
    assert entry["retention_seconds"] == 86400


def test_showing_a_gallery_tells_the_state_of_its_index(glimpse: Callable[..., Result], server: FakeServer) -> None:
    glimpse("gallery", "create", "lobby", server=server)
    shown = glimpse("gallery", "show", "lobby", server=server).stdout
    for row in (
        r"memory +0 B",
        r"segments +0 \(0 B on disk\)",
        r"tombstones +0",
        r"patterns +0",
        r"fast recall +not sampled",
    ):
        assert re.search(row, shown), shown
    assert json.loads(glimpse("gallery", "show", "lobby", "--json", server=server).stdout)["index"]["live"] == 0


def test_deleting_asks_first(glimpse: Callable[..., Result], server: FakeServer) -> None:
    glimpse("gallery", "create", "lobby", server=server)
    refused = glimpse("gallery", "delete", "lobby", server=server, typed="n\n")
    assert refused.exit_code == 1
    assert "lobby" in server.galleries
    assert glimpse("gallery", "delete", "lobby", server=server, typed="y\n").exit_code == 0
    assert server.galleries == {}


def test_deleting_with_yes_does_not_ask(glimpse: Callable[..., Result], server: FakeServer) -> None:
    glimpse("gallery", "create", "lobby", server=server)
    assert glimpse("gallery", "delete", "lobby", "--yes", server=server).exit_code == 0
    assert server.galleries == {}


def test_health_is_told_by_the_exit_code(glimpse: Callable[..., Result], server: FakeServer) -> None:
    result = glimpse("health", server=server)
    assert (result.exit_code, result.stdout.strip()) == (0, "SERVING")


def test_cert_without_key_is_a_usage_error(glimpse: Callable[..., Result]) -> None:
    assert glimpse("health", "--cert", "client.pem").exit_code == 2
