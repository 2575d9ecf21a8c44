"""What every test is given."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from server.galleries import columns


@pytest.fixture(autouse=True, scope="module")
def segment_rows_of_its_own() -> Iterator[None]:
    """A file whose tests make segments small, as `tests.crash.operations.opened` does, leaves them as it found them."""
    rows = columns.SEGMENT_ROWS
    yield
    columns.SEGMENT_ROWS = rows
