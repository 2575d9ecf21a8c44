"""The table names tests that exist, and a row that does not hold is seen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.soak.__main__ import main
from tests.soak.table import ROOT, ROWS, SHORT, Effort, Measured, Row, passes


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
    assert "test_it" in measured.told


def rows(folder: Path, *sound: bool) -> list[Row]:
    """Rows that hold or not; each notes what the files held when it was measured."""

    def measure(holds: bool) -> Measured:
        table = folder / "table.md"
        return Measured(holds, f"after {table.read_text().count('holds') if table.exists() else 0} that hold")

    return [
        Row(f"row-{n}", f"test {n}", "figure", lambda effort, holds=holds: measure(holds))  # type: ignore[misc]
        for n, holds in enumerate(sound)
    ]


def test_what_is_known_is_in_the_files_after_every_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path)], rows(tmp_path, True, True, True)) == 0
    found = json.loads((tmp_path / "table.json").read_text())
    assert [row["measured"] for row in found] == ["after 0 that hold", "after 1 that hold", "after 2 that hold"]
    assert "Not measured yet" not in (tmp_path / "table.md").read_text()
    printed = capsys.readouterr().out
    assert printed.index("row-0: holds") < printed.index("row-1: test 1") < printed.index("row-1: holds")


def test_an_interrupted_run_leaves_the_rows_that_were_measured(tmp_path: Path) -> None:
    def interrupted(effort: Effort) -> Measured:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        main(["--out", str(tmp_path)], [*rows(tmp_path, True), Row("endless", "t", "f", interrupted)])
    assert [row["name"] for row in json.loads((tmp_path / "table.json").read_text())] == ["row-0"]
    assert "Not measured yet: endless" in (tmp_path / "table.md").read_text()


def test_a_row_that_breaks_or_cannot_be_measured_fails_the_whole(tmp_path: Path) -> None:
    def crashing(effort: Effort) -> Measured:
        raise OSError("no room")

    assert main(["--out", str(tmp_path)], rows(tmp_path, True, False, True)) == 1
    assert main(["--out", str(tmp_path)], [Row("odd", "t", "f", crashing), *rows(tmp_path, True)]) == 1
    assert "no room" in (tmp_path / "table.md").read_text()


def test_rows_can_be_measured_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path), "--only", "row-2"], rows(tmp_path, False, False, True)) == 0
    assert [row["name"] for row in json.loads((tmp_path / "table.json").read_text())] == ["row-2"]
    with pytest.raises(SystemExit):
        main(["--only", "nonsense"], rows(tmp_path, True))
    assert "row-0" in capsys.readouterr().err
    assert len({row.name for row in ROWS}) == len(ROWS)
