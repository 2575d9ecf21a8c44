"""The table of a ranking: a column of probabilities where the model is calibrated, and only there."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from glimpse.cli.ranking import print_ranking
from glimpse.client import Match, PartMatch, SearchResult
from glimpse.client.values import Timings


def table_of(*chances: float | None, explain: bool = False) -> str:
    parts = (PartMatch("upper", 0.9, 1.0, 1.0, 1.0),) if explain else ()
    matches = tuple(
        Match(f"item{rank}", "", None if chance is None else 0.1 * rank, 0.5, chance, "c1", None, {}, parts)
        for rank, chance in enumerate(chances)
    )
    console = Console(file=io.StringIO(), width=120)
    result = SearchResult(matches, {"upper": 1.0}, None, True, 1, Timings(0, 0, 0, 0, 0, 0))
    print_ranking(console, "query.jpg", result, explain=explain)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("explain", [False, True])
def test_probabilities_have_a_column_and_what_cannot_be_compared_has_none(explain: bool) -> None:
    lines = table_of(0.973, 0.0414, None, explain=explain).splitlines()
    assert any("same" in line.split() for line in lines)
    assert "97.3%" in next(line for line in lines if "item0" in line)
    assert "4.1%" in next(line for line in lines if "item1" in line)
    incomparable = next(line for line in lines if "item2" in line)
    assert "%" not in incomparable
    assert "none" in incomparable


@pytest.mark.parametrize("explain", [False, True])
def test_without_a_calibration_there_is_no_such_column(explain: bool) -> None:
    assert not any("same" in line.split() for line in table_of(None, None, explain=explain).splitlines())
