"""Ranking through the API: Rank-1 and mAP of a server's own whole rankings, against the in-process evaluation.

Every gallery image goes through `Upsert`, every query image through `SearchAll`; same person and same camera are
excluded by the request's filter, and the metrics are computed from the order in which the items came back. The peer is
`glimpse evaluate` on the same bundle and data: both must agree.

    python -m benchmarks.ranking --data market1501:.data/market1501 --queries 3368
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2

from benchmarks.report import Report, Row
from glimpse.bundle import open_bundle
from glimpse.cli.subserver import subserver
from glimpse.client import Client, Filter, Item
from glimpse.metrics import RankingMetrics, RetrievalMetrics, from_ranking
from glimpse.runtime import open_session
from server.settings import default_model
from trainer.data import find_listing
from trainer.data.listing import ImageSet, Listing
from trainer.evaluation import evaluate, extract_listing

AGREEMENT = 0.0005
"""Largest difference of a metric: queries whose order hangs on the last bit of a distance."""


def run(quick: bool) -> Report:
    """Generated people, half hidden; ``quick`` asks fewer queries."""
    return measure("generated-occluded", 60 if quick else None)


def measure(data: str, queries: int | None, model: Path | None = None) -> Report:
    """Both evaluations of ``data`` (as `glimpse evaluate --data` takes it), with at most so many queries."""
    report = Report("ranking")
    listing = find_listing(data).limited(queries)
    bundle = open_bundle(model or default_model())
    served, seconds = rank_through_api(listing, bundle.source)
    session = open_session(bundle)
    inline = evaluate(extract_listing(listing, bundle.preprocessing, session.run)).rows["weighted"]
    report.add(Row("gallery_items", len(listing.gallery), "items"))
    report.add(Row("queries", served.queries, "queries"))
    for name in ("rank1", "mAP", "mAP_trapezoidal", "mINP"):
        ours, peer = figure(served, name), figure(inline, name)
        report.add(Row(f"api_{name}", 100 * ours, "%", peer=f"glimpse evaluate: {100 * peer:.2f} %"))
        report.add(Row(f"api_{name}_difference", abs(ours - peer), "share", goal=f"<= {AGREEMENT}"))
    for name, value in seconds.items():
        report.add(Row(f"{name}_seconds", value, "s"))
    return report


def rank_through_api(listing: Listing, model: Path) -> tuple[RetrievalMetrics, dict[str, float]]:
    """Metrics of the rankings that come back from a server of its own, and how long indexing and ranking took."""
    metrics = RankingMetrics()
    gallery = listing.gallery
    person = dict(zip(gallery.ids, gallery.people.tolist(), strict=True))
    with tempfile.TemporaryDirectory(prefix="glimpse-ranking-") as name:
        folder = Path(name)
        with (
            subserver(folder / "data", model, folder / "server.log") as address,
            Client(address, timeout=600) as glimpse,
        ):
            glimpse.create_gallery("gallery")
            begin = time.perf_counter()
            refused = [result for result in glimpse.upsert("gallery", items(gallery)) if not result.ok]
            if refused:
                raise RuntimeError(f"{len(refused)} items were refused, the first: {refused[0]}")
            indexed = time.perf_counter()
            query = listing.query
            for row in range(len(query)):
                who = int(query.people[row])
                same = Filter(person_ids=[str(who)], camera_ids=[str(query.cameras[row])])
                ranking = glimpse.search_all(
                    "gallery", encode(query, row), filter=Filter(exclude=[same]), include_incomparable=True
                )
                metrics.add(from_ranking(person[match.item_id] == who for match in ranking))
            ranked = time.perf_counter()
    return metrics.result(), {"indexing": indexed - begin, "ranking": ranked - indexed}


def items(images: ImageSet) -> Iterator[Item]:
    """Gallery images as items, losslessly encoded."""
    for row, item_id in enumerate(images.ids):
        yield Item(
            item_id=item_id,
            image=encode(images, row),
            person_id=str(images.people[row]),
            camera_id=str(images.cameras[row]),
        )


def encode(images: ImageSet, row: int) -> bytes:
    """PNG, so that the server sees the very pixels that `glimpse evaluate` sees."""
    return cv2.imencode(".png", images.load(row)[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def figure(metrics: RetrievalMetrics, name: str) -> float:
    return metrics.cmc[metrics.ranks.index(1)] if name == "rank1" else getattr(metrics, name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", default="generated-occluded")
    parser.add_argument("--queries", type=int, help="at most so many, evenly spread")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    result = measure(arguments.data, arguments.queries, arguments.model)
    result.print()
    if arguments.json:
        result.write_json(arguments.json)
