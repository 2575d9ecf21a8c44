"""Every contender finds what the oracle finds where it looks at everything, and what is missing is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.galleries.contenders import CONTENDERS, open_contender, why_not
from benchmarks.galleries.generator import GallerySpec, gallery_problem
from benchmarks.galleries.problem import SearchProblem
from benchmarks.galleries.truth import recall, truth, unlike

# Points that look at every item of a gallery of 300, and so can miss nothing but by their own rounding.
COMPLETE = {
    "glimpse": ("exact", 0),
    "field": ("argsort", 0),
    "torch": ("bfloat16", None),
    "flat": ("kept 1,000", 0),
    "ivf": ("nprobe 256, kept 1,000", 0),
    "pq": ("kept 1,000", 0),
    "hnsw": ("ef 1,000, kept 1,000", None),
    "qdrant": ("formula, all", 0),
    "milvus": ("numerator, kept 1,000", 0),
}


@pytest.fixture(scope="module")
def problem(tmp_path_factory: pytest.TempPathFactory) -> SearchProblem:
    spec = GallerySpec(items=300, parts=4, dim=32, queries=2)
    return gallery_problem(spec, tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize("name", [name for name, spec in CONTENDERS.items() if spec.ranks])
def test_a_contender_that_looks_at_everything_agrees_with_the_oracle(name: str, problem: SearchProblem):
    missing = CONTENDERS[name].missing()
    if missing:
        pytest.skip(f"{missing} is not installed")
    point, allowed_wrong = COMPLETE[name]
    right = truth(problem)
    contender = open_contender(name, problem, 1, problem.folder.parent)
    try:
        assert point in contender.points
        found = contender.rows(contender.search(point, problem.queries, 100))
    finally:
        contender.close()
    assert [len(rows) for rows in found] == [100] * len(problem.queries)
    assert recall(found, right.rows, 10).mean() > 0.97
    if allowed_wrong is not None:
        assert unlike(found, right.rows, right.distance) <= allowed_wrong


def test_the_floor_reads_every_byte(problem: SearchProblem):
    pytest.importorskip("numba")
    reading = open_contender("codes", problem, 1, problem.folder.parent)
    assert reading.search("read", problem.queries, 10) == 300 * 128 // 8
    assert reading.facts["bytes_an_item"] == 128


def test_the_fast_mode_of_ours_finds_nearly_all(problem: SearchProblem):
    ours = open_contender("glimpse", problem, 1, problem.folder.parent)
    try:
        found = ours.rows(ours.search("fast", problem.queries, 10))
    finally:
        ours.close()
    assert recall(found, truth(problem).rows, 10).mean() > 0.95


def test_a_gallery_is_filled_once(problem: SearchProblem):
    from benchmarks.galleries.ours import prepared_folder

    told: list[str] = []
    folder = prepared_folder(problem, problem.folder.parent, told.append)
    assert prepared_folder(problem, problem.folder.parent, told.append) == folder
    assert len(told) <= 1


@pytest.mark.parametrize(
    ("name", "items", "threads", "cores", "memory", "reason"),
    [
        ("torch", 10**6, 1, 2, 5e9, "needs 8.5 GB beside ours, 5.0 GB were allowed"),
        ("hnsw", 10**6, 1, 2, 1e12, "measured up to 100,000 items"),
        ("pq", 10**3, 2, 1, 1e12, "2 threads on 1 core"),
    ],
)
def test_what_is_not_measured_has_a_reason(name: str, items: int, threads: int, cores: int, memory: float, reason: str):
    assert reason in str(why_not(name, items, threads, cores, memory))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert why_not("qdrant", 100, 1, 1, 1e12) == "Qdrant Edge: the package qdrant_edge is not installed"


def test_an_unknown_contender_is_refused_with_the_choices(problem: SearchProblem, tmp_path: Path):
    with pytest.raises(ValueError, match=r"unknown contender 'nobody': expected one of .*'glimpse'"):
        open_contender("nobody", problem, 1, tmp_path)


def test_candidates_are_ranked_by_the_exact_distance(problem: SearchProblem):
    from benchmarks.galleries.shortlist import best_of

    everything = np.arange(len(problem))
    found = best_of(problem, problem.queries, [np.append(everything, -1)] * len(problem.queries), 100)
    assert unlike(found, truth(problem).rows, truth(problem).distance) == 0
