"""What the pages on operations and security point at exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from server.settings import ServerSettings
from tests.soak.table import ROWS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SECURITY = (DOCS / "security.md").read_text()
LINK = re.compile(r"\]\(([^)#]+)\)")


@pytest.mark.parametrize("page", ["operations.md", "security.md"])
def test_links_lead_somewhere(page: str) -> None:
    links = LINK.findall((DOCS / page).read_text())
    assert links
    assert [link for link in links if "://" not in link and not (DOCS / link).exists()] == []


def promises() -> list[tuple[str, list[str]]]:
    """Each promise of the table with the test files that it names."""
    table = SECURITY.partition("## Promises and their tests")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")][2:]
    return [(row[0], LINK.findall(row[1])) for row in rows]


@pytest.mark.parametrize(("promise", "links"), promises(), ids=lambda part: part[:40] if isinstance(part, str) else "")
def test_promise_has_a_test_that_can_run(promise: str, links: list[str]) -> None:
    assert links, promise
    for link in links:
        text = (DOCS / link).read_text()
        assert re.search(r"^(async )?def test_", text, re.MULTILINE), link


def test_every_row_of_the_soak_has_its_promise() -> None:
    linked = {(DOCS / link).resolve() for _, links in promises() for link in links}
    for row in ROWS:
        files = {ROOT / path.partition("::")[0] for path in row.paths}
        assert any(file in linked or any(file in one.parents for one in linked) for file in files), row.test


def test_flags_that_the_pages_name_are_settings() -> None:
    known = {f"--{name.replace('_', '-')}" for name in ServerSettings.model_fields}
    named = set(re.findall(r"`(--[a-z-]+)", (DOCS / "operations.md").read_text()))
    assert named - {"--target"} <= known
