from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bundles import tiny_bundle
from tests.server.running import Running


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a server listens: all that a stranger is told."""
    folder = tmp_path_factory.mktemp("stranger")
    with Running(folder / "data", tiny_bundle(folder / "model").source) as running:
        yield running.address
