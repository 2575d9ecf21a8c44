"""kill -9 in the middle of writing: what was acknowledged is there, and no batch is there by half."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import numpy as np

from server.galleries.catalog import Catalog
from server.galleries.filters import Filter
from server.galleries.items import NewItem
from tests.server.galleries.generated import SCHEMA, gallery_settings, make_items, random_features

TRIALS = 10
BATCH = 50
PEOPLE = 400  # fewer than the items written: batches replace items of earlier ones

WRITER = """
import sys
from server.galleries.catalog import Catalog
from tests.crash.test_store_kill import batch_items

gallery = Catalog.open(sys.argv[1]).get("lobby")
for batch in range(int(sys.argv[2]), 1_000_000):
    gallery.upsert(batch_items(batch))
    print(batch, flush=True)
"""


def batch_items(batch: int) -> list[NewItem]:
    """The same items each time it is asked: some new ids, some that an earlier batch has written."""
    rng = np.random.default_rng(batch)
    ids = [f"i{n}" for n in rng.choice(PEOPLE, BATCH // 2, replace=False)]
    ids += [f"{batch}-{n}" for n in range(BATCH - len(ids))]
    features = random_features(rng, SCHEMA, BATCH)
    return make_items(features, ids, attributes={"batch": batch})


def write_until_killed(data: Path, first: int, acknowledged_at_least: int, pause: float) -> int:
    """Starts a writer at batch ``first`` and kills it; returns the last batch that it said was stored."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(data), str(first)], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(acknowledged_at_least)]
        killer = threading.Timer(pause, process.kill)
        killer.start()
        lines += list(process.stdout)  # ends with the process
        killer.join()
    assert process.returncode == -9, "the writer ended by itself"
    return int([line for line in lines if line.endswith("\n")][-1])


def test_acknowledged_batches_survive_kill_and_none_is_there_by_half(tmp_path: Path) -> None:
    chance = random.Random(0)
    with closing(Catalog.open(tmp_path)) as catalog:
        catalog.create(gallery_settings())
    expected: dict[str, NewItem] = {}
    written = 0
    for _ in range(TRIALS):
        acknowledged = write_until_killed(tmp_path, written + 1, chance.randint(1, 12), chance.uniform(0, 0.02))
        with closing(Catalog.open(tmp_path)) as catalog:
            gallery = catalog.get("lobby")
            # The batch in flight may have been committed before its acknowledgement was printed.
            assert gallery.sequence in (acknowledged, acknowledged + 1)
            for batch in range(written + 1, gallery.sequence + 1):
                expected |= {item.item_id: item for item in batch_items(batch)}
            written = gallery.sequence
            stored = gallery.list(Filter(), "", 1_000_000)
            assert [item.item_id for item in stored] == sorted(expected)
            for item in stored:
                original = expected[item.item_id]
                assert item.attributes == original.attributes
                features = gallery.features(item.item_id)
                np.testing.assert_array_equal(features.vectors[0], original.vectors.astype(np.float32))
                np.testing.assert_array_equal(features.visibility[0], original.visibility)
    assert written > TRIALS
