"""Serving: what the wire, the queue and the gallery cost on top of the same work done inline.

`glimpse bench serving` prints ratios from one run. The server is pinned to one set of cores and the load to
another; the inline loop (decode, preprocess, `session.run`, exact search, all in one process; `benchmarks.inline`)
runs on the server's cores in alternation with it. The gallery holds 10,000 items throughout.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import grpc
import numpy as np

from benchmarks.inline import InlineLoop
from benchmarks.load import Window, closed_loop, one_caller, open_loop, stable
from benchmarks.pinning import pinned_server, split_cores
from benchmarks.report import Report, Row
from glimpse.bundle import open_bundle
from protos.glimpse.v1 import features_pb2, gallery_pb2, gallery_pb2_grpc, search_pb2
from server.settings import default_model

GALLERY = "bench"
ITEMS = 10_000
CALLERS = 16
LOADS = (0.50, 0.80, 0.95)
DEADLINE_SECONDS = 0.5
"""Goodput counts the answers that arrive within this time of the *intended* send time."""

Requests = Sequence[search_pb2.SearchRequest]


def run(quick: bool, model: Path | None = None) -> Report:
    """Measures and returns the ratios; ``quick`` shortens the windows, not the gallery.

    Args:
        model: the bundle to serve; default: the one that `glimpse serve` serves.
    """
    report = Report("serving")
    server_cores, client_cores = split_cores()
    bundle = open_bundle(model or default_model())
    queries = query_images(64)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="glimpse-bench-")))
        address = stack.enter_context(pinned_server(folder, bundle.source, server_cores, client_cores))
        channel = stack.enter_context(grpc.insecure_channel(address, options=[("grpc.max_send_message_length", -1)]))
        items_per_second = fill(channel, bundle.schema.always_visible)
        report.add(Row("upsert_features_items_per_second", items_per_second, "items/s", goal=">= 5000"))
        inline = stack.enter_context(InlineLoop(bundle.source, ITEMS, queries, cores=server_cores))
        asked = requests(queries)
        measure_one_caller(report, address, inline, asked, f"inline loop, same cores, {bundle.identity.name}", quick)
        rate = measure_many_callers(report, address, inline, asked, quick)
        measure_open_loop(report, address, asked, rate, quick)
    return report


def measure_one_caller(
    report: Report, address: str, inline: InlineLoop, asked: Requests, peer: str, quick: bool
) -> None:
    """The median of paired rounds: they alternate, so that drift of the machine hits both sides."""
    rounds = []
    for _ in range(5 if quick else 9):
        alone = statistics.median(inline.latencies(30 if quick else 60)) * 1e3
        caller = one_caller(address, asked, 1.0 if quick else 2.0)
        rounds.append((caller.p50 * 1e3 / alone, caller.p50 * 1e3, alone, caller))
    rounds.sort(key=lambda row: row[0])
    ratio, served, alone, caller = rounds[len(rounds) // 2]
    report.add(Row("search_wall_over_inline", ratio, "ratio", goal="<= 1.15", peer=peer))
    report.add(Row("search_overhead", served - alone, "ms", peer=peer))
    report.add(Row("search_wall_one_caller", served, "ms", peer=f"inline {alone:.2f} ms"))
    for stage, milliseconds in caller.milliseconds().items():
        report.add(Row(f"search_stage_{stage}", milliseconds, "ms"))


def measure_many_callers(report: Report, address: str, inline: InlineLoop, asked: Requests, quick: bool) -> float:
    """Adds the median of paired rounds; returns the server's searches a second in it."""
    rounds = []
    for _ in range(3 if quick else 5):
        batch, alone = inline.best_throughput(seconds=2.0 if quick else 4.0)
        served = asyncio.run(closed_loop(address, asked, callers=CALLERS, seconds=3.0 if quick else 5.0)).rate
        rounds.append((served / alone, served, alone, batch))
    ratio, served, alone, batch = sorted(rounds)[len(rounds) // 2]
    peer = f"inline loop at its best batch, {batch}"
    report.add(Row("throughput_over_inline", ratio, "ratio", goal=">= 0.9", peer=peer))
    report.add(Row("throughput_16_callers", served, "searches/s", peer=f"inline {alone:.1f}/s"))
    return served


def measure_open_loop(report: Report, address: str, asked: Requests, rate: float, quick: bool) -> None:
    """Latencies at several shares of ``rate``."""
    for load in LOADS:
        windows = open_windows(address, asked, load * rate, 2.0 if quick else 5.0, most=4 if quick else 10)
        note = "open loop, Poisson" + ("" if stable(windows) else "; UNSTABLE")
        for name, value, unit in summary(windows[-3:]):
            report.add(Row(f"open_loop_{load:.0%}_{name}".replace("%", "pct"), value, unit, peer=note))


def open_windows(address: str, asked: Requests, rate: float, seconds: float, most: int) -> list[Window]:
    """Windows at one rate until the last three agree within 10 %, or ``most`` of them (perf_analyzer's rule)."""
    windows: list[Window] = []
    while len(windows) < most and not stable(windows):
        seed = len(windows)
        windows.append(asyncio.run(open_loop(address, asked, rate, seconds, DEADLINE_SECONDS, seed=seed)))
    return windows


def summary(windows: list[Window]) -> Iterator[tuple[str, float, str]]:
    """Percentiles over all requests of the windows, and goodput."""
    latencies = np.concatenate([window.latencies for window in windows]) * 1e3
    for percentile in (50, 90, 99):
        yield f"p{percentile}", float(np.percentile(latencies, percentile)), "ms"
    yield "goodput", sum(w.good for w in windows) / sum(w.sent for w in windows), "ratio"


def requests(queries: list[bytes]) -> list[search_pb2.SearchRequest]:
    return [
        search_pb2.SearchRequest(gallery=GALLERY, query_image=data, top_k=10, mode=search_pb2.SearchRequest.EXACT)
        for data in queries
    ]


def query_images(count: int) -> list[bytes]:
    """JPEG crops of generated people, half of them partly hidden."""
    import cv2

    from glimpse.people import PeopleGenerator

    people = PeopleGenerator(seed=7, wardrobe="test")
    views = (people.view(i, 0, 0, occlusion=(0.4, 0.6) if i % 2 else None) for i in range(count))
    return [cv2.imencode(".jpg", view.image[:, :, ::-1])[1].tobytes() for view in views]


def random_rows(count: int, schema_dims: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors and soft visibilities: float32 ``(count, sum D)`` and ``(count, P)``."""
    rng = np.random.default_rng(seed)
    parts = []
    for dim in schema_dims:
        part = rng.standard_normal((count, dim), dtype=np.float32)
        parts.append(part / np.linalg.norm(part, axis=1, keepdims=True))
    return np.concatenate(parts, axis=1), rng.uniform(0.05, 1, (count, len(schema_dims))).astype(np.float32)


def fill(channel: grpc.Channel, always_visible: np.ndarray) -> float:
    """Creates the gallery, upserts features in batches of 1,000 over one stream; items/s, all acknowledged."""
    stub = gallery_pb2_grpc.GalleryServiceStub(channel)
    gallery = stub.CreateGallery(gallery_pb2.CreateGalleryRequest(gallery=GALLERY))
    dims = tuple(part.dim for part in gallery.schema.parts)
    vectors, visibility = random_rows(ITEMS, dims, seed=1)
    visibility[:, always_visible] = 1
    halves = vectors.astype("<f2")
    batches = []
    for start in range(0, ITEMS, 1000):
        items = [
            gallery_pb2.Item(
                item_id=f"item-{row:06d}",
                person_id=str(row // 10),
                camera_id=str(row % 6),
                features=features_pb2.PartFeatures(
                    vectors=halves[row].tobytes(), dtype=features_pb2.PartFeatures.FLOAT16, visibility=visibility[row]
                ),
            )
            for row in range(start, start + 1000)
        ]
        batches.append(gallery_pb2.UpsertRequest(gallery=GALLERY, items=items))
    begin = time.perf_counter()
    stored = sum(result.status.code == 0 for response in stub.Upsert(iter(batches)) for result in response.results)
    seconds = time.perf_counter() - begin
    if stored != ITEMS:
        raise RuntimeError(f"{ITEMS - stored} of {ITEMS} items were refused")
    return ITEMS / seconds
