from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from server.security.credentials import AccessFile
from server.security.roles import Role
from tests.bundles import tiny_bundle
from tests.server.running import Running


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a server listens: all that a stranger is told."""
    folder = tmp_path_factory.mktemp("stranger")
    with Running(folder / "data", tiny_bundle(folder / "model").source) as running:
        yield running.address


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A server that asks its callers for a token, and one of a reader."""
    _, token = AccessFile(tmp_path / "data").create(Role.READER)
    with Running(tmp_path / "data", tiny_bundle(tmp_path / "model").source) as running:
        yield running.address, token
