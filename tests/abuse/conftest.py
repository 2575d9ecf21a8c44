from __future__ import annotations

from collections.abc import Iterator

import pytest

from protos.glimpse.v1 import gallery_pb2
from tests.abuse.serving import Serving, serving


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("abuse")) as running:
        yield running


@pytest.fixture
def server(shared_server: Serving) -> Iterator[Serving]:
    """The server that all tests of this folder share; whatever a test did to it, it is unharmed afterwards."""
    yield shared_server
    shared_server.check_unharmed()


@pytest.fixture
def scratch(server: Serving) -> Iterator[str]:
    """An empty gallery for one test."""
    assert server.ask("CreateGallery", gallery_pb2.CreateGalleryRequest(gallery="scratch")).code == "OK"
    yield "scratch"
    assert server.ask("DeleteGallery", gallery_pb2.DeleteGalleryRequest(gallery="scratch")).code == "OK"
