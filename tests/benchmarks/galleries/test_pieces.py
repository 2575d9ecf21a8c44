"""Pieces are measured once; rows, tables and plots say what the pieces hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.galleries.comparing import paired_ratio
from benchmarks.galleries.pieces import Pieces
from benchmarks.galleries.plots import plot_recall_by_parts, plot_recall_latency
from benchmarks.galleries.summary import (
    Comparison,
    comparison_rows,
    growth_rows,
    living_rows,
    served_rows,
    size_name,
)
from benchmarks.galleries.tables import markdown


def quality(share: float, wrong: int = 0) -> dict[str, Any]:
    by_parts = {"2": share, "3": share}
    told = {"recall10": share, "recall100": share, "recall10_by_parts": by_parts, "recall100_by_parts": by_parts}
    return told | {"unlike_the_oracle": wrong, "queries": 8}


def point(seconds: float, found: float | None) -> dict[str, Any]:
    times = {batch: [seconds] * 3 for batch in ("1", "16", "64")}
    told: dict[str, Any] = {"seconds": times, "cpu": times}
    return told if found is None else told | {"quality": quality(found)}


def comparison(items: int, peer: str, exact: float, points: dict[str, Any]) -> Comparison:
    ours = {
        "facts": {"bytes_an_item": 2500.0, "open_seconds": 1.0},
        "points": {"fast": point(exact / 4, 0.97), "exact": point(exact, 1.0)},
    }
    return Comparison(items, 1, peer, {"glimpse": ours, peer: {"facts": {"bytes_an_item": 2048.0}, "points": points}})


FLOOR = comparison(100_000, "codes", 0.010, {"read": point(0.008, None)})
LARGE = comparison(1_000_000, "codes", 0.090, {"read": point(0.080, None)})
FIELD = comparison(100_000, "field", 0.010, {"argsort": point(0.100, 1.0)})
FAISS = comparison(100_000, "pq", 0.010, {"kept 1,000": point(0.005, 0.9), "kept 5,000": point(0.030, 0.965)})


def rows_of(*made: Any) -> dict[str, Any]:
    return {row.metric: row for rows in made for row in rows}


def test_ours_are_held_against_the_floor():
    rows = rows_of(comparison_rows(FLOOR))
    assert rows["exact_b1_over_reading_100k_1t"].value == pytest.approx(1.25)
    assert rows["exact_b1_over_reading_100k_1t"].met
    assert rows["fast_b1_over_exact_100k_1t"].value == pytest.approx(0.25)
    assert rows["fast_recall10_2_parts_100k_1t"].goal is None  # the goal is for a million


def test_at_a_million_recall_has_a_goal_for_every_number_of_parts():
    rows = rows_of(comparison_rows(LARGE))
    assert [rows[f"fast_recall{depth}_{parts}_parts_1m_1t"].met for depth in (10, 100) for parts in (2, 3)] == [
        False,
        False,
        True,
        True,
    ]


def test_the_fields_code_is_compared_batch_by_batch():
    rows = rows_of(comparison_rows(FIELD))
    assert [rows[f"exact_b{batch}_over_field_100k_1t"].met for batch in (1, 16, 64)] == [True, True, False]


def test_a_peer_is_compared_at_its_best_recall_with_the_faster_of_ours_that_finds_as_many():
    (row,) = comparison_rows(FAISS)
    assert row.metric == "ahead_of_pq_100k_1t"
    assert row.value == pytest.approx(0.030 / 0.0025)  # FAST finds 0.97
    assert "kept 5,000" in str(row.peer)


def test_where_only_exact_finds_as_many_it_is_exact_that_counts():
    better = comparison(100_000, "pq", 0.010, {"kept 5,000": point(0.030, 0.99)})
    (row,) = comparison_rows(better)
    assert row.value == pytest.approx(3)


def test_growth_is_told_of_sizes_ten_times_apart():
    rows = rows_of(growth_rows([FLOOR, LARGE, FIELD]))
    assert rows["exact_growth_of_tenfold_1m_1t"].value == pytest.approx(9)
    assert rows["exact_ten_million_on_paper_1t"].value == pytest.approx(90 + 9e6 * 80 / 9e5)


def test_filters_adds_and_builds_have_their_goals():
    filtered = {"seconds": {"all": [0.01, 0.01], "one camera": [0.001, 0.001]}, "unlike_the_oracle": 0}
    latencies = {"idle": [0.01] * 99 + [0.02], "busy": [0.01] * 98 + [0.1] * 2}
    adds = {
        "store": {"fast": {**latencies, "items": 5000, "seconds": 0.5}},
        "index": {"fast": {**latencies, "items": 5000, "seconds": 0.1}},
    }
    once = {"cpu_us_an_item": 20.0, "ready_seconds": 3.0, "open_seconds": 1.0, "bytes_an_item": 2500.0}
    rows = rows_of(
        living_rows(100_000, "filter", filtered),
        living_rows(100_000, "adds", adds),
        living_rows(1_000_000, "build", {"rebuilt": once, "opened": once}),
        living_rows(1_000_000, "memory", {"exact": 2_700.0, "both": 2_700.0, "fast_only": 700.0}),
    )
    assert not rows["bytes_an_item_exact_1m"].met
    assert rows["bytes_an_item_both_1m"].met is None
    assert rows["bytes_an_item_fast_only_1m"].met
    assert rows["filter_1pct_cheaper_100k"].value == pytest.approx(10)
    assert rows["stored_while_fast_searches_100k"].value == pytest.approx(10_000)
    assert rows["indexed_while_fast_searches_100k"].value == pytest.approx(50_000)
    assert rows["fast_p99_over_idle_while_indexed_100k"].value == pytest.approx(5)
    assert rows["build_seconds_1m"].met


def test_what_a_server_answers_is_told_by_mode():
    told = {"exact": {"one_caller": [0.02, 0.03, 0.04], "rates": {"16": [80.0]}, "recall100": 1.0}}
    rows = rows_of(served_rows(1_000_000, 2, told))
    assert rows["served_exact_one_caller_1m_2t"].value == pytest.approx(30)
    assert "200.0 ms for 16" in str(rows["served_exact_16_callers_1m_2t"].peer)


def test_the_table_has_a_line_a_point_and_names_what_was_left_out():
    text = markdown([FLOOR, FIELD, FAISS], ["Qdrant Edge: not installed"], "a machine")
    lines = text.splitlines()
    assert lines[0] == "**100,000 items, 1 thread**"
    assert sum(line.startswith("| ") for line in lines) == 2 + 2 + 1 + 1 + 2
    assert (
        "| Faiss PQ fast-scan, kept 5,000 | 30.00 | 30.00 | 30.00 | 30.00 | 3.00 | 0.965 | 0.965 | 0.965 | 2,048 |"
        in lines
    )
    assert lines[-1] == "- not measured: Qdrant Edge: not installed"


def test_plots_are_written(tmp_path: Path):
    for plot in (plot_recall_latency, plot_recall_by_parts):
        path = tmp_path / "plot.png"
        plot([FLOOR, LARGE, FIELD, FAISS], path)
        assert path.read_bytes().startswith(b"\x89PNG")
        path.unlink()


def test_without_recall_there_is_nothing_to_plot(tmp_path: Path):
    bare = comparison(1000, "codes", 0.01, {"read": point(0.008, None)})
    del bare.figures["glimpse"]["points"]["exact"]["quality"]
    with pytest.raises(ValueError, match="nothing to plot"):
        plot_recall_latency([bare], tmp_path / "plot.png")


def test_a_piece_is_measured_once_and_again_when_asked_otherwise(tmp_path: Path):
    pieces, calls = Pieces(tmp_path / "runs"), []

    def work() -> dict[str, Any]:
        calls.append(1)
        return {"seconds": len(calls)}

    assert pieces.measured("a", {"rounds": 3}, work) == {"seconds": 1}
    assert pieces.measured("a", {"rounds": 3}, work) == {"seconds": 1}
    assert pieces.measured("a", {"rounds": 5}, work) == {"seconds": 2}
    pieces.forget("a")
    assert pieces.measured("a", {"rounds": 5}, work) == {"seconds": 3}
    record = pieces.kept("a")
    assert record is not None
    assert {"machine", "versions", "commit", "seconds"} <= set(record)


def test_ratios_are_taken_round_by_round():
    assert paired_ratio([2.0, 8.0, 9.0], [1.0, 4.0, 3.0]) == 2.0


@pytest.mark.parametrize(("items", "name"), [(20_000, "20k"), (1_000_000, "1m"), (15_913, "15913")])
def test_sizes_have_short_names(items: int, name: str):
    assert size_name(items) == name
