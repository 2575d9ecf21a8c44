"""Contenders: what ranks a gallery, ours and the peers. Adding one is one class and one line in `CONTENDERS`."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from benchmarks.galleries.problem import Int64, SearchProblem
from glimpse.parts import PartFeatures


class Contender(Protocol):
    """One gallery, ready to be searched; made as ``Contender(problem, threads, cache)`` in a process of its own.

    ``cache`` is a folder where it may keep what takes long to build. Thread counts are in the environment already.
    """

    points: Sequence[str]
    """Operating points, cheapest first."""
    facts: dict[str, float]
    """What is worth telling: ``bytes_an_item`` in memory, ``build_seconds``, ``build_cpu_us_an_item``, ..."""

    def search(self, point: str, queries: PartFeatures, top_k: int) -> Any:
        """Ranks the gallery against every query: what is timed."""

    def rows(self, found: Any) -> list[Int64]:
        """The item numbers of a search's answer, best first, for each query: not timed."""

    def close(self) -> None:
        """Ends what it began."""


@dataclass(frozen=True)
class ContenderSpec:
    """Where a contender is and where it takes part."""

    target: str
    """``module:class`` below ``benchmarks.galleries``."""
    label: str
    """For tables."""
    packages: tuple[str, ...] = ()
    """Modules it imports, which may not be installed."""
    largest: int | None = None
    """The largest gallery it is measured with."""
    bytes_an_item: int = 0
    """Memory it takes at P = 8, D = 256, at its peak with 64 queries, roughly; decides whether it fits."""
    exact: tuple[str, ...] = ()
    """Points that promise the oracle's ranking."""
    ranks: bool = True
    """Whether it answers anything."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the class."""

    def missing(self) -> str | None:
        """The first package that is not installed."""
        return next((name for name in self.packages if importlib.util.find_spec(name) is None), None)


CONTENDERS: dict[str, ContenderSpec] = {
    "glimpse": ContenderSpec("ours:Ours", "Glimpse", bytes_an_item=3_500, exact=("exact",)),
    "codes": ContenderSpec("reading:ReadTheCodes", "reading the codes", ("numba",), bytes_an_item=2_100, ranks=False),
    "field": ContenderSpec(
        "field:FieldEvaluation", "the field's evaluation", ("torch",), bytes_an_item=15_000, exact=()
    ),
    "torch": ContenderSpec("peer_torch:FiveLines", "five lines of torch bfloat16", ("torch",), bytes_an_item=5_000),
    "flat": ContenderSpec("peer_faiss:Faiss", "Faiss Flat", ("faiss",), bytes_an_item=8_300, options={"kind": "flat"}),
    "ivf": ContenderSpec(
        "peer_faiss:Faiss", "Faiss IVF, SQ8", ("faiss",), bytes_an_item=2_100, options={"kind": "ivf"}
    ),
    "pq": ContenderSpec(
        "peer_faiss:Faiss", "Faiss PQ fast-scan", ("faiss",), bytes_an_item=200, options={"kind": "pq"}
    ),
    "hnsw": ContenderSpec(
        "peer_faiss:Faiss", "Faiss HNSW", ("faiss",), 100_000, bytes_an_item=8_600, options={"kind": "hnsw"}
    ),
    "qdrant": ContenderSpec(
        "peer_qdrant:QdrantEdge", "Qdrant Edge", ("qdrant_edge",), 20_000, bytes_an_item=20_000, exact=("formula, all",)
    ),
    "milvus": ContenderSpec(
        "peer_milvus:MilvusLite", "Milvus Lite", ("pymilvus", "milvus_lite"), 20_000, bytes_an_item=20_000
    ),
}


def contender_spec(name: str) -> ContenderSpec:
    """The spec of a name; ValueError lists the choices."""
    if name not in CONTENDERS:
        raise ValueError(f"unknown contender {name!r}: expected one of {list(CONTENDERS)}")
    return CONTENDERS[name]


def open_contender(name: str, problem: SearchProblem, threads: int, cache: Path) -> Contender:
    """A contender with its index built or loaded, in this process."""
    spec = contender_spec(name)
    module, _, attribute = spec.target.partition(":")
    made: Contender = getattr(import_module(f"benchmarks.galleries.{module}"), attribute)(
        problem, threads, cache, **spec.options
    )
    return made


def why_not(name: str, items: int, threads: int, cores: int, memory_bytes: float) -> str | None:
    """A sentence why a contender is not measured, or None."""
    spec = contender_spec(name)
    if missing := spec.missing():
        return f"{spec.label}: the package {missing} is not installed"
    if spec.largest is not None and items > spec.largest:
        return f"{spec.label}: measured up to {spec.largest:,} items"
    if threads > cores:
        return f"{spec.label}: {threads} threads on {cores} core"
    needed = items * (spec.bytes_an_item + CONTENDERS["glimpse"].bytes_an_item)
    if needed > memory_bytes:
        return f"{spec.label}: needs {needed / 1e9:.1f} GB beside ours, {memory_bytes / 1e9:.1f} GB were allowed"
    return None
