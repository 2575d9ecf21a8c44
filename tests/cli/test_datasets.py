"""`glimpse datasets`: list, verify and convert."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from tests.trainer.data.trees import folders, market, occluded_duke_source, unsplit_folders
from trainer.data import DATASETS

DOCS = Path(__file__).resolve().parents[2] / "docs" / "datasets.md"


def test_every_data_set_is_listed_with_its_size(glimpse: Callable[..., Result]) -> None:
    shown = glimpse("datasets", "list")
    assert shown.exit_code == 0
    rows = {line.split()[0]: line.split() for line in shown.stdout.splitlines() if line.strip()}
    assert set(DATASETS) <= set(rows)
    assert rows["market1501"][-3:] == ["12,936/751", "3,368/750", "15,913/750"]
    assert rows["partial-ilids"][-3:] == ["-", "119/119", "119/119"]
    verbose = glimpse("datasets", "list", "--verbose").stdout
    assert "withdrawn by its makers" in verbose
    assert "camera 0" in verbose


def test_the_list_as_json_has_protocols_and_licences(glimpse: Callable[..., Result]) -> None:
    listed = json.loads(glimpse("datasets", "list", "--json").stdout)
    assert set(listed) == set(DATASETS)
    assert listed["occluded-duke"]["expected"]["query"] == {"images": 2_210, "people": 519}
    assert listed["occluded-reid"]["options"] == ["split"]
    assert not listed["partial-ilids"]["training"]
    assert "research only" in listed["market1501"]["licence"]


def test_a_whole_set_is_verified(glimpse: Callable[..., Result], tmp_path: Path) -> None:
    result = glimpse("datasets", "verify", f"folder:{folders(tmp_path)}")
    assert result.exit_code == 0, result.stderr
    assert "14 files checked: whole and readable" in result.stdout
    assert "no two files are the same" in result.stdout


def test_a_set_that_is_not_whole_is_exit_code_1(glimpse: Callable[..., Result], tmp_path: Path) -> None:
    result = glimpse("datasets", "verify", f"market1501:{market(tmp_path)}")
    assert result.exit_code == 1
    assert "train: 4 images of 2 people; not the whole set: expected 12,936 of 751" in result.stdout
    assert "is not whole or not readable" in result.stderr


def test_unreadable_files_copies_and_lonely_people_are_shown(glimpse: Callable[..., Result], tmp_path: Path) -> None:
    root = unsplit_folders(tmp_path)
    (root / "ann/c1_x.png").write_bytes((root / "ann/c2_x.png").read_bytes())
    (root / "bob/c1_x.png").unlink()
    (root / "cid/c1_x.png").write_bytes(b"no image")
    result = glimpse("datasets", "verify", f"folder:{root}", "--decode")
    assert result.exit_code == 1
    assert "1 files are exact copies of others, in 1 groups" in result.stdout
    assert "ann/c1_x.png = ann/c2_x.png" in result.stdout
    assert "1 people have a single image" in result.stdout
    assert "1 queries have no positive left in the gallery" in result.stdout
    assert "1 of 5 files are no images that can be used" in result.stderr
    assert "cid/c1_x.png: not an image" in result.stderr
    as_json = glimpse("datasets", "verify", f"folder:{root}", "--json")
    assert as_json.exit_code == 1
    found = json.loads(as_json.stdout)
    assert found["skipped"] == 1
    assert list(found["unreadable"]) == ["cid/c1_x.png"]
    assert not found["passed"]


@pytest.mark.parametrize("name", ["nothing:here", "market1501:nowhere", "occluded-reid:here@split=11"])
def test_what_cannot_be_found_is_one_sentence(glimpse: Callable[..., Result], name: str) -> None:
    result = glimpse("datasets", "verify", name)
    assert result.exit_code == 1
    assert len(result.stderr.strip().splitlines()) == 1
    assert "Traceback" not in result.stderr


def test_a_source_that_is_not_whole_is_not_converted(glimpse: Callable[..., Result], tmp_path: Path) -> None:
    source = occluded_duke_source(tmp_path / "from")
    result = glimpse("datasets", "convert", "occluded-duke", source, tmp_path / "to")
    assert result.exit_code == 1
    assert "images of the train list" in result.stderr
    assert not (tmp_path / "to").exists()


def test_a_whole_source_is_converted(
    glimpse: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.trainer.data.trees import occluded_duke_names
    from trainer.data.occluded_duke import conversion

    names = occluded_duke_names()
    monkeypatch.setattr(conversion, "read_list", names.__getitem__)
    source = occluded_duke_source(tmp_path / "from")
    listed = glimpse("datasets", "convert", "occluded-duke", source, "--mode", "list")
    assert listed.exit_code == 0, listed.stderr
    assert "query         8 images, as listed (7 out of bounding_box_test)" in listed.stdout
    assert f"use it as occluded-duke:{source}" in listed.stdout.replace("\n", "")
    made = glimpse("datasets", "convert", "occluded-duke", source, tmp_path / "to", "--mode", "link", "--json")
    assert json.loads(made.stdout)["written"] == "hard-linked"
    assert len(list((tmp_path / "to" / "query").iterdir())) == 8


@pytest.mark.parametrize(
    "arguments", [["convert", "nothing", "a", "b"], ["convert", "occluded-duke", "here"], ["verify"], ["nonsense"]]
)
def test_a_wrong_command_line_is_exit_code_2(glimpse: Callable[..., Result], arguments: list[str]) -> None:
    assert glimpse("datasets", *arguments).exit_code == 2


@pytest.mark.parametrize("command", ["list", "verify", "convert", "annotate"])
def test_the_help_holds_an_example(glimpse: Callable[..., Result], command: str) -> None:
    shown = glimpse("datasets", command, "--help")
    assert shown.exit_code == 0
    assert f"Example: glimpse datasets {command}" in " ".join(shown.stdout.split())


def test_the_page_on_data_sets_is_right(glimpse: Callable[..., Result]) -> None:
    """Every command and option it shows exists, and its table is the one that the command prints."""
    page = DOCS.read_text()
    blocks = re.findall(r"^```bash\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    commands = [shlex.split(line) for block in blocks for line in block.splitlines() if line.startswith("glimpse ")]
    assert len(commands) > 5
    for _, *words in commands:
        shown = glimpse(*words[: 2 if words[0] == "datasets" else 1], "--help")
        assert shown.exit_code == 0
        for option in (word for word in words if word.startswith("--")):
            assert re.search(rf"(?<![\w-]){option}(?![\w-])", shown.stdout), option
    assert glimpse("datasets", "list", "--markdown").stdout in page
