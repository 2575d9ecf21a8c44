"""The lock covers what a server needs, each with its hashes; the audit says what it found, or that it could not ask."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.audit import CLEAN, UNREACHABLE, VULNERABLE, verdict

ROOT = Path(__file__).resolve().parents[2]
LOCK = (ROOT / "requirements.lock").read_text()
PINNED = re.compile(
    r"^([A-Za-z0-9._-]+)==([^ ;]+)(?: ; ([^\\]+?))? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.M
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SERVING = [Requirement(text) for text in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["cpu"])]


@pytest.mark.parametrize("needed", SERVING, ids=lambda needed: needed.name)
def test_lock_pins_what_serving_needs_within_its_range(needed: Requirement) -> None:
    versions = [version for name, version, *_ in PINNED.findall(LOCK) if name == canonicalize_name(needed.name)]
    assert versions, f"{needed.name} is not locked: run `make lock`"
    assert all(needed.specifier.contains(version) for version in versions)


def test_everything_in_the_lock_has_hashes_and_torch_is_not_in_it() -> None:
    lines = [line for line in LOCK.splitlines() if line and not line.startswith(("#", " "))]
    assert len(lines) == len(PINNED.findall(LOCK)) > 20
    assert not any(line.startswith("torch") for line in lines)


def test_image_is_made_from_the_lock() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "pip install --require-hashes -r requirements.lock" in dockerfile
    assert "!requirements.lock" in (ROOT / ".dockerignore").read_text()


def report(*packages: dict[str, object]) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("", UNREACHABLE, "cannot be reached"),
        (report({"name": "numpy", "skip_reason": "Dependency not found on PyPI"}), UNREACHABLE, "nothing was audited"),
        (report({"name": "numpy", "version": "2", "vulns": []}), CLEAN, "1 packages have no known vulnerability"),
        (
            report({"name": "old", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}),
            VULNERABLE,
            "old 1: PYSEC-1, fixed in 2",
        ),
    ],
)
def test_audit_tells_clean_from_vulnerable_from_unasked(text: str, code: int, words: str) -> None:
    found, sentence = verdict(text)
    assert found == code
    assert words in sentence
