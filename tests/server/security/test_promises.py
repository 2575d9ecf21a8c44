"""`docs/security.md` links each promise to tests that exist, and the soak's table leaves none of them out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.soak.table import ROWS

ROOT = Path(__file__).resolve().parents[3]
PAGES = ("security.md", "access.md", "erasure.md", "operations.md")
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)\)")
NAMED = re.compile(r"`(tests/[\w/]+\.py)`")


def promises() -> dict[str, list[Path]]:
    """Each row of the table of promises, and the tests that it links to."""
    text = (ROOT / "docs" / "security.md").read_text()
    table = text.split("## Promises and their tests")[1].split("\n## ")[0]
    rows = [line.strip("| ").rsplit("|", 1) for line in table.splitlines() if line.startswith("|")][2:]
    return {promise.strip(): [_path(link) for link in LINK.findall(tests)] for promise, tests in rows}


def _path(link: str) -> Path:
    return (ROOT / "docs" / link).resolve()


def names_of_tests(path: Path) -> list[str]:
    found = ast.walk(ast.parse(path.read_text()))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node.name for node in found if isinstance(node, kinds) and node.name.startswith("test_")]


@pytest.mark.parametrize("promise", promises())
def test_each_promise_has_a_test_that_exists(promise: str) -> None:
    paths = promises()[promise]
    assert paths, "no test is linked"
    for path in paths:
        assert path.is_relative_to(ROOT / "tests"), path
        assert path.is_file(), path
        assert names_of_tests(path), f"{path.name} holds no test"


def test_the_table_of_promises_is_found() -> None:
    assert len(promises()) > 20


def test_what_the_soak_measures_is_promised() -> None:
    linked = {path.relative_to(ROOT).as_posix() for paths in promises().values() for path in paths}
    for row in ROWS:
        for path in {path.partition("::")[0] for path in row.paths}:
            assert path in linked or any(link.startswith(f"{path}/") for link in linked), f"{row.test}: {path}"


@pytest.mark.parametrize("page", PAGES)
def test_links_and_named_tests_of_the_pages_exist(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    links = [_path(link) for link in LINK.findall(text) if "://" not in link]
    for path in [*links, *(ROOT / name for name in NAMED.findall(text))]:
        assert path.exists(), path
