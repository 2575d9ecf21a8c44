"""The documentation says what is true: its Python runs, and its commands exist with the options it names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import Result

from tests.bundles import encoded, person
from tests.client.fake_server import FakeServer
from tests.server.running import Running

DOCS = Path(__file__).resolve().parents[2] / "docs"
GROUPS = ("gallery", "model", "token", "audit", "datasets", "snapshot", "alias")
PAGES = ("quickstart.md", "cli.md", "calibration.md", "evaluation.md", "access.md", "erasure.md", "operations.md")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)


def commands() -> Iterator[tuple[str, ...]]:
    for page in PAGES:
        for block in blocks(page, "bash"):
            for line in block.splitlines():
                if line.startswith("glimpse "):
                    yield tuple(shlex.split(line)[1:])


@pytest.mark.parametrize("command", sorted(set(commands())), ids=" ".join)
def test_every_documented_command_and_option_exists(glimpse: Callable[..., Result], command: tuple[str, ...]) -> None:
    names = command[:2] if command[0] in GROUPS else command[:1]
    result = glimpse(*names, "--help")
    assert result.exit_code == 0
    for option in (word for word in command if word.startswith("--")):
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", result.stdout), option


def test_the_python_of_the_quickstart_runs(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "query.jpg").write_bytes(encoded(person(1), ".jpg"))
    monkeypatch.chdir(tmp_path)
    examples = blocks("quickstart.md", "python")
    assert len(examples) == 2
    with Running(tmp_path / "data", bundle) as server:
        from glimpse.client import Client, Item

        with Client(server.address) as client:
            client.create_gallery("lobby")
            assert all(r.ok for r in client.upsert("lobby", [Item(item_id="seen", image="query.jpg")]))
        for example in examples:
            exec(compile(example.replace("localhost:50051", server.address), "quickstart.md", "exec"), {})
    output = capsys.readouterr().out
    assert output.startswith("seen ")
    assert "upper" in output


def test_the_manifest_of_the_quickstart_is_read(
    glimpse: Callable[..., Result], server: FakeServer, tmp_path: Path
) -> None:
    (manifest,) = re.findall(r"^```\n(path,.*?)^```", (DOCS / "quickstart.md").read_text(), re.DOTALL | re.MULTILINE)
    (tmp_path / "manifest.csv").write_text(manifest)
    (tmp_path / "crops").mkdir()
    (tmp_path / "crops" / "a.jpg").write_bytes(b"jpeg")
    assert glimpse("index", "lobby", tmp_path / "manifest.csv", server=server).exit_code == 0
    assert server.galleries["lobby"]["door-0001"].attributes["bag"] == "red"
