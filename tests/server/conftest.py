from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bundles import tiny_bundle
from tests.server.running import Running


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny real bundle."""
    return tiny_bundle(tmp_path_factory.mktemp("model") / "tiny").source


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Running]:
    """A server shared by a module's tests, with a gallery `crowd` of 12 people seen by two cameras."""
    with Running(tmp_path_factory.mktemp("server") / "data", model) as running:
        running.gallery("crowd")
        running.crowd("crowd", 12)
        yield running
