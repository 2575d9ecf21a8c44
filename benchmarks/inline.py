"""The same work as `Search`, done inline in one process of its own: the peer of the serving benchmark.

It calls what the server calls, in the best way there is for its batch: one `session.run`, one pass over the gallery
for all queries, and in the end the values that a response holds. What it lacks is what serving adds: the wire, the
queue, and messages.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import time
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType

BATCHES = (1, 2, 4, 8, 16)


class InlineLoop:
    """A child process, pinned to ``cores``, that idles between measurements."""

    def __init__(self, bundle: Path, items: int, queries: list[bytes], cores: set[int]) -> None:
        context = mp.get_context("spawn")
        self._connection, self._child = context.Pipe()
        self._process = context.Process(target=_serve, args=(self._child, bundle, items, queries, cores), daemon=True)

    def __enter__(self) -> InlineLoop:
        self._process.start()
        self._child.close()  # so that the end of the child is the end of the connection
        try:
            self._connection.recv()
        except EOFError:
            raise RuntimeError("the inline loop did not start; its error is above") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.send(None)
        self._process.join(10)

    def latencies(self, count: int) -> list[float]:
        """Seconds of ``count`` single queries."""
        self._connection.send(("latencies", count))
        return list(self._connection.recv())

    def best_throughput(self, seconds: float) -> tuple[int, float]:
        """(batch size, queries a second) of the best of `BATCHES`, measured for so many seconds."""
        self._connection.send(("throughput", seconds))
        batch, rate = self._connection.recv()
        return int(batch), float(rate)


def _serve(connection: Connection, bundle_path: Path, items: int, queries: list[bytes], cores: set[int]) -> None:
    os.sched_setaffinity(0, cores)  # before NumPy comes, whose BLAS takes as many threads as there are cores
    import gc
    import tempfile

    import cv2
    import numpy as np

    from glimpse.bundle import open_bundle
    from glimpse.images import decode_image
    from glimpse.runtime import open_session
    from server.services.matches import calibration_of

    cv2.setNumThreads(1)
    bundle = open_bundle(bundle_path)
    session = open_session(bundle, "cpu", threads=len(cores))
    with tempfile.TemporaryDirectory() as folder:
        gallery, options = _gallery(Path(folder), bundle, items)
        calibration = calibration_of(bundle, gallery.settings, options)

        def answer(batch: list[bytes]) -> list[tuple[object, ...]]:
            answers: list[tuple[object, ...]] = []
            images = np.stack([bundle.preprocessing(decode_image(data)) for data in batch])
            features = session.run(images)
            asked = [(features[row : row + 1], options) for row in range(len(batch))]
            for (query, _), ranking in zip(asked, gallery.search_together(asked), strict=True):
                chances = None
                if calibration is not None:
                    chances = calibration.probability(ranking.distance, ranking.joint).tolist()
                matches = [ranking.item(rank) for rank in range(len(ranking))]
                distances, joints = ranking.distance.tolist(), ranking.joint.tolist()
                answers.append((matches, distances, joints, chances, query.visibility[0].tolist(), ranking.exact))
            return answers

        for data in queries[:8]:
            answer([data])
        gc.collect()
        gc.freeze()  # as a server does
        connection.send("ready")
        while (task := connection.recv()) is not None:
            kind, amount = task
            if kind == "latencies":
                times = []
                for index in range(amount):
                    begin = time.perf_counter()
                    answer([queries[index % len(queries)]])
                    times.append(time.perf_counter() - begin)
                connection.send(times)
            else:
                # The best batch is chosen first and measured anew: the largest of several noisy rates flatters itself.
                best = max(BATCHES, key=lambda size: _rate(answer, queries, size, amount / 2))
                connection.send((best, _rate(answer, queries, best, amount)))


def _rate(answer, queries: list[bytes], batch: int, seconds: float) -> float:  # type: ignore[no-untyped-def]
    answer(queries[:batch])
    done, begin = 0, time.perf_counter()
    while (now := time.perf_counter()) - begin < seconds:
        start = done % (len(queries) - batch + 1)
        answer(queries[start : start + batch])
        done += batch
    return done / (now - begin)


def _gallery(folder: Path, bundle, items: int):  # type: ignore[no-untyped-def]
    """A gallery of ``items`` random rows, straight through the server's own catalogue."""
    import numpy as np

    from benchmarks.serving import random_rows
    from server.galleries.catalog import Catalog
    from server.galleries.items import NewItem
    from server.galleries.ranking import SearchOptions
    from server.galleries.settings import GallerySettings

    catalog = Catalog.open(folder)
    gallery = catalog.create(GallerySettings(name="bench", schema=bundle.schema, model=bundle.identity))
    vectors, visibility = random_rows(items, bundle.schema.dims, seed=1)
    visibility[:, bundle.schema.always_visible] = 1
    rows = [
        NewItem(f"item-{i:06d}", vectors[i].astype(np.float16), visibility[i], str(i // 10), str(i % 6))
        for i in range(items)
    ]
    for start in range(0, items, 1000):
        gallery.upsert(rows[start : start + 1000])
    return gallery, SearchOptions(top_k=10, mode="exact")
