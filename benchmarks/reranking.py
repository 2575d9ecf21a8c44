"""k-reciprocal re-ranking at the size of Occluded-Duke, sparse against the dense array code that every toolkit copies.

Both sides start from the same part features and the same visibility-weighted distance, each in a process of its own
that tells its peak memory. The peer is the published NumPy procedure (Zhong et al., CVPR 2017), written again here:
N x N distances, all of them sorted, N x N vectors V and their averages. Rankings must be the same: walking down ours,
the peer's final distance may never fall by more than float32's noise.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.crowd import Crowd, make_crowd
from benchmarks.peak import measure
from benchmarks.report import Report, Row
from glimpse.metrics import RankingMetrics, RetrievalMetrics
from glimpse.parts import Float32, PartFeatures
from glimpse.reranking import Reranking, rerank
from glimpse.scan import DistanceScan, query_blocks

QUERIES, GALLERY = 2_210, 17_661
QUICK_QUERIES, QUICK_GALLERY = 620, 4_980
PARTS, DIM = 9, 64
CROWD_NOISE = 1.9
"""So that narrow parts tell people apart about as well as the wide ones of `benchmarks.evaluation`."""
REPEATS = 3
"""Runs of ours, the fastest of which counts: it is short, and any other process on the machine would decide it. The
peer runs once; its minute evens that out."""
NOISE = 1e-5
"""Largest fall of the peer's final distance down our ranking that rounding explains."""
DENSE_BYTES = 21
"""An entry of N x N in the peer, at its peak: float32 distances, int64 order, V and its average."""


def run(quick: bool) -> Report:
    """Both sides, each alone; ``quick`` takes 5,600 images for 19,871."""
    queries, items = (QUICK_QUERIES, QUICK_GALLERY) if quick else (QUERIES, GALLERY)
    count = queries + items
    _check_memory(count)
    report = Report("reranking")
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / f"{name}.npy") for name in ("sparse", "dense")]
        ours = measure(_prepared, sparse_to_file, queries, items, paths[0], repeats=REPEATS)
        theirs = measure(_prepared, dense_to_file, queries, items, paths[1])
        found, reference = (np.load(path, mmap_mode="r") for path in paths)
        worst = largest_fall(found, reference)
        crowd = make_crowd(queries, items, PARTS, DIM, noise=CROWD_NOISE)
        figures = [_figures(crowd, distances) for distances in (found, reference)]
    size = f"N = {count:,}, {PARTS} parts x {DIM}"
    peer = "dense N x N NumPy"
    report.add(Row("rerank_speedup_over_dense", theirs.seconds / ours.seconds, "ratio", ">= 3", peer))
    report.add(Row("rerank_seconds", ours.seconds, "s", peer=f"{theirs.seconds:.1f} s at {size}"))
    report.add(Row("rerank_memory_over_dense", ours.extra_bytes / theirs.extra_bytes, "ratio", "<= 0.2", peer))
    report.add(
        Row("rerank_extra_memory", ours.extra_bytes / 1e9, "GB", peer=f"{theirs.extra_bytes / 1e9:.2f} GB, {peer}")
    )
    report.add(Row("rerank_largest_fall_of_the_peers_distance", worst, "distance", f"<= {NOISE:.5f}", peer))
    difference = abs(figures[0].mAP - figures[1].mAP)
    report.add(Row("rerank_map_difference", difference, "share", "<= 0.00001", peer))
    report.add(Row("rerank_map", 100 * figures[0].mAP, "%", peer=f"{100 * _plain(crowd).mAP:.1f} % before"))
    return report


def dense_reranking(query: PartFeatures, gallery: PartFeatures, settings: Reranking) -> Float32:
    """The published procedure on N x N arrays: final distances ``(Q, G)``.

    An incomparable pair has the row's largest distance, so with parts that may all be hidden this differs from
    `glimpse.reranking`; the crowd has none.
    """
    everything = PartFeatures.concatenate([gallery[:0], query, gallery])
    count, k1, k2 = len(everything), settings.k1, settings.k2
    distances = np.empty((count, count), np.float32)
    scan = DistanceScan(everything)
    for rows in query_blocks(count, count):
        distances[rows] = scan(everything[rows])
    own = np.arange(count)
    distances[own, own] = 0
    distances /= distances.max(axis=1, keepdims=True)
    order = np.argsort(distances, axis=1)  # [N, N] int64
    vectors = np.zeros_like(distances)
    for i in range(count):
        close = _reciprocal(order, i, k1)
        members = close
        for candidate in close:
            offered = _reciprocal(order, candidate, int(np.around(k1 / 2)))
            if len(np.intersect1d(offered, close)) > 2 / 3 * len(offered):
                members = np.append(members, offered)
        members = np.unique(members)
        weight = np.exp(-distances[i, members])
        vectors[i, members] = weight / weight.sum()
    first = order[:, :k2].copy()
    del order
    distances = distances[: len(query)].copy()
    if k2 > 1:
        expanded = np.zeros_like(vectors)
        for i in range(count):
            expanded[i] = vectors[first[i]].mean(axis=0)
        vectors = expanded
    holders = [np.flatnonzero(vectors[:, column]) for column in range(count)]
    final = np.empty((len(query), len(gallery)), np.float32)
    for q in range(len(query)):
        shared = np.zeros(count, np.float32)
        for column in np.flatnonzero(vectors[q]):
            shared[holders[column]] += np.minimum(vectors[q, column], vectors[holders[column], column])
        jaccard = 1 - shared / (2 - shared)
        final[q] = ((1 - settings.weight) * jaccard + settings.weight * distances[q])[len(query) :]
    return final


def largest_fall(found: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """How much the reference's distance falls at most from one item to the next, down our ranking of any query."""
    worst = 0.0
    for own, other in zip(found, reference, strict=True):
        down = np.asarray(other)[np.argsort(own, kind="stable")]
        worst = max(worst, float(-np.diff(down).min(initial=0)))
    return worst


def sparse_to_file(crowd: Crowd, path: str) -> None:
    """Ours, block by block into a file."""
    shape = (len(crowd.query), len(crowd.gallery))
    final = np.lib.format.open_memmap(path, "w+", np.float32, shape)
    for rows, distances in rerank(crowd.query, crowd.gallery, Reranking()):
        final[rows] = distances
    final.flush()


def dense_to_file(crowd: Crowd, path: str) -> None:
    """The peer's, into a file."""
    np.save(path, dense_reranking(crowd.query, crowd.gallery, Reranking()))


def _reciprocal(order: NDArray[np.int64], i: int, k: int) -> NDArray[np.int64]:
    forward = order[i, : k + 1]
    return forward[(order[forward, : k + 1] == i).any(axis=1)]


def _prepared(queries: int, items: int, path: str) -> tuple[Crowd, str]:
    return make_crowd(queries, items, PARTS, DIM, noise=CROWD_NOISE), path


def _figures(crowd: Crowd, distances: NDArray[np.float32]) -> RetrievalMetrics:
    metrics = RankingMetrics()
    for rows in query_blocks(len(crowd.query), len(crowd.gallery)):
        labels = crowd.query_people[rows], crowd.gallery_people, crowd.query_cameras[rows], crowd.gallery_cameras
        metrics.add_block(distances[rows], *labels)
    return metrics.result()


def _plain(crowd: Crowd) -> RetrievalMetrics:
    metrics = RankingMetrics()
    scan = DistanceScan(crowd.gallery)
    for rows in query_blocks(len(crowd.query), len(crowd.gallery)):
        labels = crowd.query_people[rows], crowd.gallery_people, crowd.query_cameras[rows], crowd.gallery_cameras
        metrics.add_block(scan(crowd.query[rows]), *labels)
    return metrics.result()


def _check_memory(count: int) -> None:
    needed = DENSE_BYTES * count**2
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            available = 1024 * int(line.split()[1])
            if available < needed:
                raise RuntimeError(
                    f"the dense peer needs about {needed / 1e9:.1f} GB at N = {count:,}, and {available / 1e9:.1f} GB "
                    "are available: free some, or take --quick"
                )


if __name__ == "__main__":
    run(quick=False).print()
