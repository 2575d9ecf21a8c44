"""kill -9 at any step of sealing, rewriting and merging segments: the next start shows what was acknowledged.

The writer deletes and replaces as much as it adds, and its segments are tiny, so that files come and go all the time.
"""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from server.galleries import columns
from server.galleries.catalog import Catalog
from server.galleries.gallery import Gallery
from server.galleries.items import NewItem
from server.galleries.ranking import SearchOptions
from tests.server.galleries.generated import SCHEMA, gallery_settings, make_items, oracle_ranking, random_features

TRIALS = 8
SEGMENT_ROWS = 40
PEOPLE = 300

WRITER = """
import sys
from server.galleries import columns
from server.galleries.catalog import Catalog
from tests.crash.test_segment_kill import SEGMENT_ROWS, write

columns.SEGMENT_ROWS = SEGMENT_ROWS
gallery = Catalog.open(sys.argv[1]).get("lobby")
for step in range(int(sys.argv[2]), 1_000_000):
    write(gallery, step)
    print(step, flush=True)
"""


def added(step: int) -> list[NewItem]:
    rng = np.random.default_rng(step)
    ids = [f"i{n}" for n in rng.choice(PEOPLE, 20, replace=False)]
    return make_items(random_features(rng, SCHEMA, 20), ids, attributes={"step": step})


def removed(step: int) -> list[str]:
    return [f"i{n}" for n in np.random.default_rng(step).choice(PEOPLE, 15, replace=False)]


def write(gallery: Gallery, step: int) -> None:
    """One write, the same each time it is asked for; every other one deletes. All of them commit."""
    if step % 2 or gallery.delete(item_ids=removed(step))[0] == 0:
        gallery.upsert(added(step))


def expect(expected: dict[str, NewItem], step: int) -> None:
    """What `write` does, to a dictionary."""
    gone = [] if step % 2 else [item_id for item_id in removed(step) if expected.pop(item_id, None)]
    if not gone:
        expected |= {item.item_id: item for item in added(step)}


def write_until_killed(data: Path, first: int, acknowledged_at_least: int, pause: float) -> int:
    """Starts a writer at step ``first`` and kills it; returns the last step that it said was stored."""
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


def test_segments_show_what_was_acknowledged_whenever_the_process_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "SEGMENT_ROWS", SEGMENT_ROWS)
    chance = random.Random(0)
    with closing(Catalog.open(tmp_path)) as catalog:
        catalog.create(gallery_settings())
    expected: dict[str, NewItem] = {}
    written, claimed = 0, 0
    for trial in range(TRIALS):
        acknowledged = write_until_killed(tmp_path, written + 1, chance.randint(5, 40), chance.uniform(0, 0.02))
        claimed += len(list((tmp_path / "segments").glob("*.seg")))
        with closing(Catalog.open(tmp_path)) as catalog:
            gallery = catalog.get("lobby")
            # The write in flight may have been committed before its acknowledgement was printed.
            assert gallery.sequence in (acknowledged, acknowledged + 1)
            for step in range(written + 1, gallery.sequence + 1):
                expect(expected, step)
            written = gallery.sequence
            query = random_features(np.random.default_rng(trial), SCHEMA, 1)
            ranking = gallery.search(query, SearchOptions(top_k=None, include_incomparable=True))
            ids = sorted(expected)
            features = random_features(np.random.default_rng(0), SCHEMA, len(ids))
            features.vectors[:] = [expected[item_id].vectors for item_id in ids]
            features.visibility[:] = [expected[item_id].visibility for item_id in ids]
            wanted = oracle_ranking(query, ids, features, top_k=None, include_incomparable=True)
            assert ranking.item_ids() == [row[0] for row in wanted]
            steps = {ranking.item(at).item_id: ranking.item(at).attributes for at in range(len(ranking))}
            assert steps == {item_id: expected[item_id].attributes for item_id in ids}
            assert not list((tmp_path / "segments").glob("*.tmp"))
    assert written > 5 * TRIALS
    assert claimed > TRIALS
