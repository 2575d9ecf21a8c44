"""kill -9 while items are stored: each committed write has its row, each row its write, and the chain is whole."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from server.galleries.database import FILE
from server.security.verification import verify_folder

WRITER = """
import sys
import numpy as np
from server.galleries.catalog import Catalog
from server.security.audit import Entry, begin
from tests.server.galleries.generated import SCHEMA, gallery_settings, make_items, random_features

begin(Entry("GalleryService/Upsert", "token:abcdefgh", "ipv4:127.0.0.1:9", "crowd"))
catalog = Catalog.open(sys.argv[1])
gallery = catalog.list()[0] if catalog.list() else catalog.create(gallery_settings())
print("open", flush=True)
features = random_features(np.random.default_rng(0), SCHEMA, 4)
for write in range(100_000):
    sequence = gallery.upsert(make_items(features, [f"{write}-{n}" for n in range(4)]))
    print(sequence, flush=True)
"""


@pytest.mark.parametrize("writes", [1, 3, 7, 20, 50])
def test_no_change_without_its_row_and_no_row_without_its_change(tmp_path: Path, writes: int) -> None:
    for _ in range(2):  # the second one goes on from what the first one left
        acknowledged = 0
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "open\n"
            for _ in range(writes):
                acknowledged = int(child.stdout.readline())
            child.kill()
        with closing(sqlite3.connect(tmp_path / FILE)) as connection:
            (sequence,) = connection.execute("SELECT sequence FROM galleries").fetchone()
            said = [json.loads(text) for (text,) in connection.execute("SELECT row FROM audit ORDER BY seq")]
        assert sequence >= acknowledged
        assert len(said) == sequence + 1  # the gallery's own making is the first row
        assert [row["items"] for row in said] == [0, *[4] * sequence]
        assert verify_folder(tmp_path).problem == ""
