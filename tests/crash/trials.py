"""kill -9 at random moments of everything that writes: ``python -m tests.crash.trials --trials 50``.

A worker writes, updates, deletes, erases, backs up and compacts, in an order that its numbers decide, and prints each
number when it is acknowledged. It is killed at a random moment, and the folder is opened again: it must hold what the
acknowledged steps have made, and perhaps the step that was under way, whole. The next worker goes on from there.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from server.galleries import columns
from server.galleries.catalog import Catalog
from server.galleries.choosing import Order
from server.galleries.filters import Filter
from server.galleries.gallery import Gallery
from server.galleries.items import NewItem
from server.galleries.segments.container import UNFINISHED
from tests.server.galleries.generated import gallery_settings
from tests.server.galleries.traces import marked, places

SEGMENT_ROWS = 60
PEOPLE = 150
BATCH = 20
KEPT_BACKUPS = 3
KINDS = ("upsert",) * 6 + ("update",) * 3 + ("delete",) * 2 + ("erase",) * 2 + ("backup", "compact")

Version = tuple[int, str]
"""The step that wrote an item, and its camera, which updates change."""


@dataclass
class Step:
    """One step, the same each time it is asked for."""

    number: int
    kind: str
    ids: list[str]

    @classmethod
    def of(cls, number: int) -> Step:
        chance = random.Random(number)
        kind = chance.choice(KINDS) if number > 5 else "upsert"
        count = {"upsert": BATCH, "update": 1, "delete": 5, "erase": 3}.get(kind, 0)
        return cls(number, kind, [f"item-{n:03}" for n in chance.sample(range(PEOPLE), count)])

    def items(self) -> list[NewItem]:
        return [self.item(item_id) for item_id in self.ids]

    def item(self, item_id: str) -> NewItem:
        chance = np.random.default_rng((self.number, int(item_id[-3:])))
        return marked(item_id, chance, person=f"person-{item_id}", camera_id="")

    def do(self, catalog: Catalog, gallery: Gallery) -> None:
        if self.kind == "upsert":
            gallery.upsert(self.items())
        elif self.kind == "update":
            if gallery.snapshot.row_of(self.ids[0]) is not None:
                gallery.update(self.ids[0], camera_id=f"camera-{self.number}")
        elif self.kind == "delete":
            gallery.delete(item_ids=self.ids)
        elif self.kind == "erase":
            catalog.custody.erase(Order("lobby", item_ids=tuple(self.ids)))
        elif self.kind == "backup":
            catalog.custody.back_up("lobby", f"b{self.number}")
            for each in catalog.custody.backups()[:-KEPT_BACKUPS]:
                catalog.custody.delete_backup(each.name)
        else:
            gallery.tend()

    def change(self, model: dict[str, Version], erased: dict[str, bytes]) -> None:
        """What the step makes of the items, and the vectors of whom it has erased."""
        for item_id in self.ids:
            if self.kind == "erase" and item_id in model:
                erased[item_id] = Step.of(model[item_id][0]).item(item_id).vectors.tobytes()
            if self.kind == "upsert":
                model[item_id] = (self.number, "")
            elif self.kind == "update" and item_id in model:
                model[item_id] = (model[item_id][0], f"camera-{self.number}")
            elif self.kind in ("delete", "erase"):
                model.pop(item_id, None)


@dataclass
class Counts:
    """What the trials found; all but the first two must be 0, but for restarts."""

    trials: int = 0
    acknowledged: int = 0
    lost: int = 0
    half_written: int = 0
    resurrected: int = 0
    traces: int = 0
    restarts_not_clean: int = 0
    kinds_killed: dict[str, int] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        return not (self.lost or self.half_written or self.resurrected or self.traces or self.restarts_not_clean)


def work(folder: Path, first: int) -> None:
    """The worker: steps without end."""
    columns.SEGMENT_ROWS = SEGMENT_ROWS
    catalog = Catalog.open(folder)
    gallery = catalog.get("lobby")
    print("open", flush=True)
    for number in range(first, first + 1_000_000):
        Step.of(number).do(catalog, gallery)
        print(number, flush=True)


def run_trials(folder: Path, trials: int, seed: int = 0) -> Counts:
    """Kills so many workers over one folder, and looks at it each time."""
    columns.SEGMENT_ROWS = SEGMENT_ROWS
    chance = random.Random(seed)
    counts = Counts(trials=trials)
    with closing(Catalog.open(folder)) as catalog:
        catalog.create(gallery_settings(keep_images=True))
    model: dict[str, Version] = {}
    erased: dict[str, bytes] = {}
    done = 0
    for _ in range(trials):
        acknowledged = _killed_worker(folder, done + 1, chance)
        counts.acknowledged += acknowledged - done
        for number in range(done + 1, acknowledged + 1):
            Step.of(number).change(model, erased)
        # The step under way may have happened, too.
        under_way = Step.of(acknowledged + 1)
        counts.kinds_killed[under_way.kind] = counts.kinds_killed.get(under_way.kind, 0) + 1
        further, also_erased = dict(model), dict(erased)
        under_way.change(further, also_erased)
        happened = _look(folder, model, further, under_way, counts)
        done = acknowledged
        if happened:
            model, erased, done = further, also_erased, acknowledged + 1
        # Whom an erasure names is in no file: their vectors never more, their id unless it is written again.
        counts.traces += len(places(folder, {f"vectors of {item_id}": vectors for item_id, vectors in erased.items()}))
        gone = {item_id: item_id.encode() for item_id in erased if item_id not in model and not _deleted(item_id, done)}
        counts.traces += len(places(folder, gone))
    return counts


def _killed_worker(folder: Path, first: int, chance: random.Random) -> int:
    """The last step that a worker acknowledged before it was killed."""
    command = [sys.executable, "-m", "tests.crash.trials", "--work", str(folder), "--first", str(first)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(chance.randint(1, 25))]
        killer = threading.Timer(chance.uniform(0, 0.05), process.kill)
        killer.start()
        lines += list(process.stdout)
        killer.join()
    assert process.returncode == -9, "the worker ended by itself"
    numbers = [int(line) for line in lines if line.endswith("\n") and line != "open\n"]
    return numbers[-1] if numbers else first - 1


def _look(
    folder: Path, model: dict[str, Version], further: dict[str, Version], under_way: Step, counts: Counts
) -> bool:
    """Opens the folder and counts what is wrong; tells whether the step under way has happened."""
    try:
        catalog = Catalog.open(folder)
    except Exception as error:  # whatever it is, it is counted
        print(f"cannot be opened: {error}", file=sys.stderr)
        counts.restarts_not_clean += 1
        return False
    with closing(catalog):
        gallery = catalog.get("lobby")
        catalog.drain()
        found = {item.item_id: item for item in gallery.list(Filter(), "", 1_000_000)}
        cameras = {item_id: item.camera_id for item_id, item in found.items()}
        expected = {item_id: camera for item_id, (_, camera) in model.items()}
        also = {item_id: camera for item_id, (_, camera) in further.items()}
        vectors = {item_id: gallery.get(item_id).vectors for item_id in found}
        as_before = cameras == expected and _are(vectors, model)
        as_after = cameras == also and _are(vectors, further)
        if not (as_before or as_after):
            counts.lost += len((expected.keys() & also.keys()) - found.keys())
            counts.resurrected += len(found.keys() - expected.keys() - also.keys())
            counts.half_written += 1
        counts.restarts_not_clean += _unclean(folder, catalog)
    return as_after and (not as_before or under_way.kind in ("backup", "compact"))


def _deleted(item_id: str, done: int) -> bool:
    """Whether an item was written after its last erasure and then only deleted: that may leave traces."""
    for number in range(done, 0, -1):
        step = Step.of(number)
        if item_id in step.ids and step.kind in ("erase", "upsert"):
            return step.kind == "upsert"
    return False


def _are(vectors: dict[str, object], model: dict[str, Version]) -> bool:
    return all(
        np.array_equal(np.asarray(vectors[item_id]), Step.of(number).item(item_id).vectors)
        for item_id, (number, _) in model.items()
    )


def _unclean(folder: Path, catalog: Catalog) -> int:
    with catalog.database.read() as connection:
        sound = connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        (waiting,) = connection.execute("SELECT count(*) FROM erasures WHERE NOT done").fetchone()
    damaged = [each for each in catalog.custody.backups() if each.damage]
    return int(not sound or waiting > 0 or bool(damaged) or bool(list(folder.rglob(f"*{UNFINISHED}"))))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work is not None:
        work(arguments.work, arguments.first)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        counts = run_trials(Path(folder) / "data", arguments.trials, arguments.seed)
    if arguments.json:
        print(json.dumps(asdict(counts)))
    else:
        print(f"kill -9 trials             {counts.trials}, in {time.monotonic() - started:.0f} s")
        print(f"steps acknowledged         {counts.acknowledged:,}")
        print(f"acknowledged writes lost   {counts.lost}")
        print(f"half-written               {counts.half_written}")
        print(f"resurrected                {counts.resurrected}")
        print(f"traces of the erased       {counts.traces}")
        print(f"restarts not clean         {counts.restarts_not_clean}")
        killed = ", ".join(f"{kind} {count}" for kind, count in sorted(counts.kinds_killed.items()))
        print(f"killed at or before        {killed}")
    return 0 if counts.sound else 1


if __name__ == "__main__":
    sys.exit(main())
