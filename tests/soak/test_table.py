"""The table names tests that exist, and a row that does not hold is seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.table import ROOT, ROWS, SHORT, Row, passes


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.test)
def test_tests_of_a_row_exist(row: Row) -> None:
    assert row.paths
    for path in row.paths:
        name, _, function = path.partition("::")
        assert (ROOT / name).exists(), path
        if function:
            assert f"def {function}(" in (ROOT / name).read_text(), path


def test_row_whose_tests_fail_is_broken(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it():\n    assert False\n")
    measured = passes(str(tmp_path / "test_it.py"))(SHORT)
    assert not measured.sound
    assert "1 failed" in measured.told
