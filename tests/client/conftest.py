from __future__ import annotations

from collections.abc import Iterator

import pytest

from glimpse.client import Client
from tests.client.fake_server import FakeServer


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    yield fake
    fake.release.set()
    fake.server.stop(None).wait(5)


@pytest.fixture
def client(server: FakeServer) -> Iterator[Client]:
    with Client(server.address, timeout=10) as client:
        client.create_gallery("lobby")
        server.requests.clear()
        yield client
