"""Metrics and logs: what is exposed, under which names, and that callers cannot forge them."""

from __future__ import annotations

import json
import logging
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from protos.glimpse.v1 import search_pb2
from server.logs import FIELDS, JsonFormatter, PlainFormatter
from tests.bundles import encoded, person
from tests.server.running import Running, until

EXPOSED = {
    "glimpse_requests": {"method", "code"},
    "glimpse_request_seconds": {"method"},
    "glimpse_stage_seconds": {"stage"},
    "glimpse_inflight": set(),
    "glimpse_queue_depth": set(),
    "glimpse_queue_rejected": {"reason"},
    "glimpse_batch_size": set(),
    "glimpse_images_rejected": {"reason"},
    "glimpse_gallery_items": {"gallery", "state"},
    "glimpse_gallery_sequence": {"gallery"},
    "glimpse_joint_visibility": set(),
    "glimpse_disk_free_ratio": set(),
    "glimpse_data_bytes": set(),
    "glimpse_limit_bytes": {"kind"},
    "glimpse_worker_alive": set(),
    "glimpse_provider_info": {"requested", "actual"},
    "glimpse_build_info": {"version", "model", "model_version", "model_sha256"},
}
"""The names of the wire contract, but for those of features that do not exist yet; counters without ``_total``."""


def families(server: Running) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://{server.application.metrics_address}/metrics") as response:
        text = response.read().decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_metrics_have_the_names_and_labels_of_the_contract(server: Running) -> None:
    server.search.Search(search_pb2.SearchRequest(gallery="crowd", query_image=encoded(person(1))))
    until(lambda: server.metric("glimpse_requests_total", method="SearchService/Search", code="OK"))
    found = families(server)
    for name, labels in EXPOSED.items():
        assert name in found, name
        seen = {label for sample in found[name].samples for label in sample.labels} - {"le"}
        assert seen == labels, name
    stages = {sample.labels["stage"] for sample in found["glimpse_stage_seconds"].samples}
    assert stages == {"decode", "preprocess", "queue", "inference", "search"}
    info = found["glimpse_provider_info"].samples[0]
    assert (info.labels, info.value) == ({"requested": "auto", "actual": "cpu"}, 1)
    items = {
        (sample.labels["gallery"], sample.labels["state"]): sample.value
        for sample in found["glimpse_gallery_items"].samples
    }
    assert items["crowd", "live"] == 24
    assert 0 < found["glimpse_disk_free_ratio"].samples[0].value <= 1


def test_calls_are_booked_where_nothing_is_logged_or_scraped(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "glimpse.calls")
    for _ in range(3):
        server.search.Search(search_pb2.SearchRequest(gallery="crowd", query_image=encoded(person(1))))
    until(lambda: server.application.telemetry.unbooked == 0)


def test_deleted_gallery_leaves_no_series_behind(tmp_path: Path, model: Path) -> None:
    from protos.glimpse.v1 import gallery_pb2

    with Running(tmp_path / "data", model) as running:
        running.gallery("brief")
        assert running.metric("glimpse_gallery_sequence", gallery="brief") == 0
        running.galleries.DeleteGallery(gallery_pb2.DeleteGalleryRequest(gallery="brief"))
        assert running.metric("glimpse_gallery_sequence", gallery="brief") is None


def test_every_call_is_counted_once_with_its_code(server: Running) -> None:
    def count(code: str) -> float:
        return server.metric("glimpse_requests_total", method="SearchService/SearchAll", code=code) or 0

    before = count("OK"), count("NOT_FOUND")
    list(server.search.SearchAll(search_pb2.SearchRequest(gallery="crowd", item_id="1-0")))
    with pytest.raises(Exception, match="no gallery"):
        list(server.search.SearchAll(search_pb2.SearchRequest(gallery="x", item_id="1-0")))
    until(lambda: (count("OK"), count("NOT_FOUND")) == (before[0] + 1, before[1] + 1))
    assert server.metric("glimpse_inflight") == 0


def test_every_call_is_one_log_line(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "glimpse.calls"):
        request = search_pb2.SearchRequest(gallery="crowd", item_id="1-0", purpose="lost child")
        server.search.Search(request)
        until(lambda: [record for record in caplog.records if record.name == "glimpse.calls"])
    (record,) = [record for record in caplog.records if record.name == "glimpse.calls"]
    fields = getattr(record, FIELDS)
    assert fields["method"] == "SearchService/Search"
    assert (fields["code"], fields["gallery"], fields["matches"]) == ("OK", "crowd", 10)
    assert fields["purpose"] == "lost child"
    assert fields["ms"] > 0
    assert fields["peer"].startswith("ipv4:127.0.0.1:")


def record_of(message: str, **fields: object) -> logging.LogRecord:
    record = logging.LogRecord("glimpse.calls", logging.INFO, "", 0, message, (), None)
    setattr(record, FIELDS, fields)
    return record


def test_json_lines_are_objects_of_one_line() -> None:
    line = JsonFormatter().format(record_of("call", gallery="a\nb", ms=1.5))
    assert "\n" not in line
    entry = json.loads(line)
    assert (entry["message"], entry["level"], entry["gallery"], entry["ms"]) == ("call", "info", "a\nb", 1.5)
    assert entry["time"].endswith("Z")


@pytest.mark.parametrize("text", ["x\nfake line", 'a" code="OK', "a b", "", "\x1b[31m", "k=v"])
def test_a_caller_s_text_cannot_forge_a_plain_line(text: str) -> None:
    line = PlainFormatter().format(record_of("call", purpose=text, code="OK"))
    assert "\n" not in line
    assert "\x1b" not in line
    purpose = line.split(" purpose=", 1)[1].rsplit(" code=OK", 1)[0]
    assert json.loads(purpose) == text
