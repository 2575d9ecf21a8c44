from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.bundles import encoded, person, tiny_bundle
from tests.client.fake_server import FakeServer


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    yield fake
    fake.server.stop(None).wait(5)


@pytest.fixture
def glimpse(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command in this process: ``glimpse("gallery", "list")``."""
    from glimpse.cli import main

    # Rich takes the width from here; failures must not depend on the terminal of whoever runs the tests.
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "dumb")

    def run(*arguments: str | Path, server: FakeServer | None = None, typed: str | None = None) -> Result:
        if server is not None:
            monkeypatch.setenv("GLIMPSE_SERVER", server.address)
        return CliRunner().invoke(main, [str(argument) for argument in arguments], input=typed)

    return run


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """Five people at two cameras, Market-style names, and things that are no images of people."""
    folder = tmp_path / "crops"
    folder.mkdir()
    for identity in range(5):
        for camera in (1, 2):
            path = folder / f"{identity:04d}_c{camera}s1_{identity:06d}_00.png"
            path.write_bytes(encoded(person(identity, shot=camera)))
    (folder / "notes.txt").write_text("not an image")
    return folder


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny").source
