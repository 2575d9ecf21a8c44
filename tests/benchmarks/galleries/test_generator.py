"""Generated galleries have the occlusion, norms and spectrum that they claim, and are the same every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.galleries.generator import (
    GallerySpec,
    covered_runs,
    fitted_decay,
    gallery_problem,
    occluded_runs,
    participation,
    spectrum,
)
from benchmarks.galleries.problem import takes_turns
from glimpse.parts import PartFeatures

SMALL = GallerySpec(items=905, parts=5, dim=24, views=4, queries=3)


def contiguous(hidden: np.ndarray) -> bool:
    """Whether the hidden parts of every row are neighbours."""
    edges = np.diff(np.pad(hidden.astype(int), ((0, 0), (1, 1))), axis=1)
    return bool(((edges == 1).sum(axis=1) <= 1).all())


def test_occlusion_has_the_share_it_claims_and_is_contiguous():
    hidden = occluded_runs(np.random.default_rng(0), 40_000, body=7, share=0.62)
    assert contiguous(hidden)
    assert hidden.any(axis=1).mean() == pytest.approx(0.62, abs=0.01)
    assert hidden.mean() == pytest.approx(0.31, abs=0.01)
    assert not hidden.all(axis=1).any()
    assert hidden[:, -1].mean() > hidden[:, 0].mean()  # people stand behind things


def test_runs_have_the_lengths_that_were_asked_for():
    lengths = np.random.default_rng(1).integers(0, 6, 500)
    hidden = covered_runs(np.random.default_rng(2), lengths, body=5)
    assert hidden.sum(axis=1).tolist() == lengths.tolist()
    assert contiguous(hidden)


def test_a_gallery_is_made_of_unit_vectors_and_soft_visibilities(tmp_path: Path):
    problem = gallery_problem(SMALL, tmp_path)
    assert problem.vectors.dtype == np.float16
    assert problem.vectors.shape == (905, 120)
    everything = problem.features(np.arange(905))
    PartFeatures(everything.vectors, everything.visibility, problem.schema)  # checks norms and ranges
    norms = np.linalg.norm(everything.vectors.reshape(905, 5, 24), axis=2)
    assert np.abs(norms - 1).max() < 1e-3
    body = problem.visibility[:, 1:]
    assert contiguous(body < 0.5)
    assert len(np.unique(body)) > 1000
    assert (problem.visibility[:, 0] == 1).all()
    assert np.bincount(problem.people).tolist() == [4] * 226 + [1]


def test_queries_show_every_number_of_parts_equally_often_and_in_turns(tmp_path: Path):
    problem = gallery_problem(SMALL, tmp_path)
    assert problem.visible_parts.tolist() == [2, 3, 4, 5] * 3


def test_equal_specs_give_equal_bytes_and_other_seeds_others(tmp_path: Path):
    first = gallery_problem(SMALL, tmp_path / "a")
    second = gallery_problem(SMALL, tmp_path / "b")
    other = gallery_problem(GallerySpec(items=905, parts=5, dim=24, views=4, queries=3, seed=1), tmp_path / "a")
    for name in ("vectors.npy", "visibility.npy", "people.npy", "queries.npz"):
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes()
    assert not np.array_equal(first.vectors, other.vectors)


def test_a_gallery_is_generated_once(tmp_path: Path):
    made = gallery_problem(SMALL, tmp_path).folder / "vectors.npy"
    before = made.stat().st_mtime_ns
    gallery_problem(SMALL, tmp_path)
    assert made.stat().st_mtime_ns == before


def test_fewer_people_than_stretches_of_queries_are_no_problem(tmp_path: Path):
    problem = gallery_problem(GallerySpec(items=5, parts=2, dim=4, views=1, queries=40), tmp_path)
    assert len(problem.queries) == 40


def test_views_of_a_person_are_alike_and_hidden_parts_are_not(tmp_path: Path):
    problem = gallery_problem(GallerySpec(items=600, parts=3, dim=64, views=2, noise=0.5, queries=1), tmp_path)
    order = np.argsort(problem.people, kind="stable")
    parts = problem.vectors[order].astype(np.float32).reshape(300, 2, 3, 64)
    seen = (problem.visibility[order] >= 0.5).reshape(300, 2, 3)
    alike = np.einsum("npd,npd->np", parts[:, 0], parts[:, 1])
    both = seen.all(axis=1)[:, 1:]
    assert alike[:, 1:][both].mean() > 0.5
    assert abs(alike[:, 1:][~both].mean()) < 0.15


def test_the_decay_of_a_spectrum_is_found_again(tmp_path: Path):
    spec = GallerySpec(items=4_000, parts=2, dim=32, views=1, decay=2.5, queries=1)
    problem = gallery_problem(spec, tmp_path)
    assert fitted_decay(problem.features(np.arange(4_000))) == pytest.approx(2.5, abs=0.35)


def test_a_flat_spectrum_uses_all_dimensions():
    assert participation(spectrum(64, 0.0)) == pytest.approx(64)
    assert participation(spectrum(64, 4.0)) < 16


def test_a_decay_cannot_be_told_from_too_few_rows(tmp_path: Path):
    problem = gallery_problem(SMALL, tmp_path)
    with pytest.raises(ValueError, match="too few rows to tell a spectrum: 3"):
        fitted_decay(problem.features(np.arange(3)))


@pytest.mark.parametrize("wrong", [{"items": 0}, {"items": 9, "parts": 1}, {"items": 9, "occluded": 1.5}])
def test_an_impossible_spec_is_refused(wrong: dict[str, float]):
    with pytest.raises(ValueError, match="must"):
        GallerySpec(**wrong)  # type: ignore[arg-type]


def test_groups_take_turns():
    groups = np.array([2, 2, 2, 5, 5, 3])
    assert groups[takes_turns(groups)].tolist() == [2, 3, 5, 2, 5, 2]
