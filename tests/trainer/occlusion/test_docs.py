"""The page about occlusion: its picture, its table and its commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import cv2
import pytest
from typer.testing import CliRunner

from trainer.occlusion import SIMULATORS
from trainer.occlusion.gallery import main

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGE = (DOCS / "occlusion.md").read_text()


def test_the_picture_is_drawn_by_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "out.png")]) == 0
    drawn, kept = (cv2.imread(str(path)) for path in (tmp_path / "out.png", DOCS / "images" / "occlusion.png"))
    assert drawn.shape == kept.shape
    assert (tmp_path / "out.png").stat().st_size < 300_000
    assert main(["out.jpg"]) == 2
    assert "usage" in capsys.readouterr().err


def test_the_table_has_every_simulator_and_names_no_option_that_is_not_there() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", PAGE, re.MULTILINE))
    assert rows.keys() >= SIMULATORS.keys()
    for name, spec in SIMULATORS.items():
        options = spec.load().Options.model_fields
        named = {word for word in re.findall(r"`(\w+)`", rows[name]) if "values" not in rows[name]}
        assert named <= options.keys(), name


def test_the_commands_exist_with_the_options_they_use(monkeypatch: pytest.MonkeyPatch) -> None:
    from glimpse.cli import main as command

    monkeypatch.setenv("COLUMNS", "160")
    shown = CliRunner().invoke(command, ["occlude", "--help"]).stdout
    lines = [shlex.split(line) for line in PAGE.splitlines() if line.startswith("glimpse occlude")]
    assert lines
    for option in (word for line in lines for word in line if word.startswith("--")):
        assert option in shown
