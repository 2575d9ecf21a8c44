"""The whole way on a tiny gallery: workers, turns, recall, and what else a gallery does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.galleries.alone import alone
from benchmarks.galleries.comparing import Effort, compare
from benchmarks.galleries.generator import GallerySpec, gallery_problem
from benchmarks.galleries.living import filtered, growing, rebuilt, sized
from benchmarks.galleries.problem import SearchProblem
from benchmarks.galleries.real import real_problem
from benchmarks.galleries.workers import Worker
from glimpse.parts import Part, PartFeatures, PartSchema
from trainer.evaluation.features import Extraction, LabelledFeatures, save_features


@pytest.fixture(scope="module")
def problem(tmp_path_factory: pytest.TempPathFactory) -> SearchProblem:
    spec = GallerySpec(items=2_000, parts=3, dim=16, queries=2)
    return gallery_problem(spec, tmp_path_factory.mktemp("cache"))


def test_two_sides_take_turns_and_are_held_against_the_oracle(problem: SearchProblem):
    pytest.importorskip("torch")
    effort = Effort(rounds=2, turn_seconds=0.01, batches=(1, 3))
    figures = compare(problem, "torch", 1, problem.folder.parent, effort, with_recall=True)
    assert set(figures) == {"glimpse", "torch"}
    exact = figures["glimpse"]["points"]["exact"]
    assert {batch: len(seconds) for batch, seconds in exact["seconds"].items()} == {"1": 2, "3": 2}
    assert exact["quality"]["unlike_the_oracle"] == 0
    assert exact["quality"]["recall100_by_parts"] == {"2": 1.0, "3": 1.0}
    assert figures["torch"]["points"]["bfloat16"]["quality"]["recall10"] > 0.95


def test_what_fails_in_a_worker_is_told_here(problem: SearchProblem):
    with (
        Worker("glimpse", problem, 1, problem.folder.parent) as worker,
        pytest.raises(RuntimeError, match=r"glimpse failed:(.|\n)*top_k must be at least 1"),
    ):
        worker.turn("exact", 1, 1, 0)


def test_filters_are_timed_and_exact(problem: SearchProblem):
    told = filtered(problem.folder, problem.folder.parent, 1, 0.001)
    assert told["unlike_the_oracle"] == 0
    assert set(told["seconds"]) == {"all", "one camera"}


def test_items_are_added_while_searches_run_and_the_gallery_stays_as_it_was(problem: SearchProblem):
    told = growing(problem.folder, problem.folder.parent, 1_000, 0.001)
    assert list(told) == ["store", "index"]
    for added, modes in ((1_000, told["store"]), (2_000, told["index"])):  # there are no more to add
        assert {mode: one["items"] for mode, one in modes.items()} == {"fast": added, "exact": added}
        assert all(len(one["idle"]) >= 7 for one in modes.values())
    assert filtered(problem.folder, problem.folder.parent, 1, 0.001)["unlike_the_oracle"] == 0


def test_an_index_is_built_again_from_the_store_alone(problem: SearchProblem):
    told = rebuilt(problem.folder, problem.folder.parent)
    assert told["rebuilt"]["cpu_us_an_item"] > 0
    assert told["opened"]["bytes_an_item"] > 0


def test_each_kind_of_gallery_tells_what_an_item_takes(problem: SearchProblem):
    told = sized(problem.folder, problem.folder.parent, 500)
    assert list(told) == ["exact", "both", "fast_only"]
    assert all(size > 0 for size in told.values())


def fails() -> None:
    raise ValueError("as told")


def test_work_that_fails_alone_says_why():
    with pytest.raises(RuntimeError, match=r"fails failed:(.|\n)*ValueError: as told"):
        alone(1, fails)


def test_real_features_become_a_problem(tmp_path: Path):
    random = np.random.default_rng(0)
    schema = PartSchema((Part("global", 8), Part("legs", 8, weight=0.5)), prior=0.2)

    def side(count: int) -> LabelledFeatures:
        vectors = random.standard_normal((count, 2, 8)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
        visibility = random.uniform(0.2, 1, (count, 2)).astype(np.float32)
        features = PartFeatures(vectors.reshape(count, -1), visibility, schema)
        people = np.arange(count) // 3
        return LabelledFeatures(features, ("",) * count, people, np.zeros(count, np.int64))

    gallery = side(200)
    path = tmp_path / "features.npz"
    save_features(path, Extraction("made-up", (), side(30), gallery))
    problem = real_problem(path, tmp_path / "cache")
    assert len(problem) == 200
    assert problem.schema == schema
    assert np.array_equal(problem.vectors, gallery.features.vectors.astype(np.float16))
    assert set(problem.visible_parts.tolist()) <= {0, 1, 2}
