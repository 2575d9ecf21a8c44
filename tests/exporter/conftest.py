"""Imported before the tests: `trainer` must come before timm and Lightning (see `trainer.torchvision_guard`)."""

from collections.abc import Iterator

import pytest

import trainer

__all__ = ["trainer"]


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The gate's people are drawn once for all tests, and not into the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
