"""The shared result format of the benchmarks."""

from __future__ import annotations

import io
import json
import math

import pytest
from rich.console import Console

from benchmarks.report import Report, Row


def _report() -> Report:
    report = Report("serving")
    report.add(Row("search_wall_over_inline", 1.1, "ratio", "<= 1.15", "inline loop"))
    report.add(Row("throughput_over_inline", 0.8, "ratio", ">= 0.9", "inline loop"))
    report.add(Row("items", 12_345, "items/s"))
    return report


def test_json_has_the_keys_that_acceptance_checks_read(tmp_path):
    _report().write_json(tmp_path / "serving.json")
    written = json.loads((tmp_path / "serving.json").read_text())
    assert list(written) == ["bench", "machine", "versions", "rows"]
    assert written["bench"] == "serving"
    assert written["rows"][0] == {
        "metric": "search_wall_over_inline",
        "value": 1.1,
        "unit": "ratio",
        "goal": "<= 1.15",
        "peer": "inline loop",
    }
    assert written["rows"][2]["goal"] is None


def test_machine_and_versions_are_recorded():
    report = _report()
    assert report.machine["cpu"]
    assert 1 <= report.machine["cores_available"] <= report.machine["cores"]
    assert report.machine["memory_gib"] > 0
    assert len(report.machine["load_average"]) == 3
    assert {"python", "numpy", "opencv-python-headless", "grpcio"} <= set(report.versions)


def test_missed_goals_are_told_and_rows_are_found_by_metric():
    report = _report()
    assert [row.metric for row in report.missed] == ["throughput_over_inline"]
    assert report["items"].met is None
    assert report["search_wall_over_inline"].met is True
    with pytest.raises(KeyError, match="no metric 'speed' in this report; it has"):
        report["speed"]


@pytest.mark.parametrize(
    ("goal", "value", "met"),
    [(">= 2", 2.0, True), (">= 2", 1.9, False), ("<= 0.5", 0.5, True), ("> 1", 1.0, False), ("< 1", 1.0, False)],
)
def test_goal_is_compared_as_it_reads(goal, value, met):
    assert Row("metric", value, "ratio", goal).met is met


@pytest.mark.parametrize(("goal", "value"), [("about 2", 1.0), (">=2", 1.0), (None, math.nan), (None, math.inf)])
def test_row_that_cannot_be_judged_is_refused(goal, value):
    with pytest.raises(ValueError, match=r"^metric: (goal|value) must"):
        Row("metric", value, "ratio", goal)


def test_table_says_what_was_met_and_what_was_missed():
    page = io.StringIO()
    _report().print(Console(file=page, width=200))
    lines = {line.split()[1]: line for line in page.getvalue().splitlines() if "│" in line}
    assert "1.10" in lines["search_wall_over_inline"]
    assert "<= 1.15 met" in lines["search_wall_over_inline"]
    assert ">= 0.9 MISSED" in lines["throughput_over_inline"]
    assert "12,345" in lines["items"]
    assert "cores" in page.getvalue()
