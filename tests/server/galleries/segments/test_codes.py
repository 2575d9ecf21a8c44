"""The two kinds of codes of a sealed segment, and which of them a gallery keeps in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from server.galleries.compact import compress
from tests.server.galleries.generated import SCHEMA
from tests.server.galleries.segments.galleries import SEGMENT_ROWS, opened, small_segments
from tests.server.galleries.segments.test_living import fill, ranked

pytestmark = pytest.mark.usefixtures(small_segments.__name__)


def test_sealed_rows_have_the_fast_engines_codes_row_by_row(tmp_path: Path) -> None:
    with opened(tmp_path, latency_target_us=1000) as (catalog, gallery):
        fill(gallery, 2 * SEGMENT_ROWS)
        catalog.drain()
        gallery.delete(item_ids=[f"i{n:05}" for n in range(70)])
        catalog.drain()  # 30 rows of one segment are merged with nothing or written anew
        for block in gallery._snapshot.blocks:
            expected = compress(block.read(np.arange(block.capacity)), block.visibility.T, SCHEMA)
            assert block.compact is not None
            assert block.compact.keys() == expected.keys()
            for name, array in expected.items():
                np.testing.assert_array_equal(block.compact[name], array)


def test_a_compact_gallery_leaves_the_int8_codes_on_disk_and_ranks_the_same(tmp_path: Path) -> None:
    memory, rankings = {}, {}
    for compact in (False, True):
        with opened(tmp_path / str(compact), compact=compact) as (catalog, gallery):
            fill(gallery, 3 * SEGMENT_ROWS)
            catalog.drain()
        with opened(tmp_path / str(compact)) as (_, again):
            memory[compact], rankings[compact] = again.report().memory_bytes, ranked(again)
    codes = 3 * SEGMENT_ROWS * SCHEMA.width
    two_bit = 3 * SEGMENT_ROWS * (3 * 64 + 4 * len(SCHEMA))  # each part fills pieces of 64 bytes
    assert memory[True] == memory[False] - codes + two_bit
    assert rankings[True] == rankings[False]
