"""A gallery of made-up people as hard to search as a real one: clusters, occlusion, soft visibilities, a spectrum.

An item is a view of a person. Part p of it is

    x_p = normalised (s_p c_p + noise e_p) B_p      c_p of the person, e_p of the view, both standard normal

where B_p = diag(sqrt(lambda)) R_p gives the vectors the spectrum of a network's: lambda_i = (1 + i / 16)^-decay,
turned by an orthogonal R_p so that no axis is special. At decay 2 the participation ratio of 256 dimensions is 41,
what the parts of glimpse-lite have on Market-1501 (`fitted_decay`). The signal s_p is the part's visibility: what is
hidden looks like nobody. An occluder hides a contiguous run of the body's parts, top to bottom; the first part is the
whole person, always visible, and loses signal as parts are hidden.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.galleries.problem import Int64, SearchProblem, open_problem, save_problem, takes_turns
from glimpse.parts import Float32, Part, PartFeatures, PartSchema

KNEE = 16
PEOPLE_AT_ONCE = 400
NAMES = ("head", "shoulders", "chest", "belly", "hips", "knees", "feet")


@dataclass(frozen=True)
class GallerySpec:
    """A gallery and its queries; equal specs give equal bytes."""

    items: int
    parts: int = 8
    dim: int = 256
    views: int = 10
    """Items a person."""
    decay: float = 2.0
    """Of the spectrum, see the module; 0 is flat."""
    noise: float = 1.1
    """Of a view beside its person, per dimension."""
    occluded: float = 0.62
    """Share of items that are partly hidden; with seven body parts 31 % of all are then hidden."""
    prior: float = 0.0
    queries: int = 32
    """Per number of visible parts, 2 to P."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.items < 1 or self.parts < 2 or self.dim < 2 or self.views < 1 or self.queries < 1:
            raise ValueError(f"items, views and queries must be at least 1, parts and dim at least 2, got {self}")
        if not 0 <= self.occluded <= 1 or self.decay < 0 or self.noise < 0:
            raise ValueError(f"occluded must lie in [0, 1], decay and noise be at least 0, got {self}")

    @property
    def name(self) -> str:
        """Of its folder."""
        digest = hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:8]
        return f"{self.items}x{self.parts}x{self.dim}-{digest}"

    @property
    def people(self) -> int:
        return -(-self.items // self.views)

    @property
    def schema(self) -> PartSchema:
        body = (NAMES[p] if self.parts == 8 else f"body{p}" for p in range(self.parts - 1))
        whole = Part("global", self.dim, always_visible=True)
        return PartSchema((whole, *(Part(name, self.dim) for name in body)), self.prior)


class Views(NamedTuple):
    """Drawn views: vectors ``(n, P D)``, visibility ``(n, P)``."""

    vectors: Float32
    visibility: Float32


def gallery_problem(spec: GallerySpec, cache: Path) -> SearchProblem:
    """The problem of a spec, generated into ``cache`` unless it is there already."""
    folder = cache / spec.name
    if not (folder / "problem.json").is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="generating-") as fresh:
            _generate(spec, Path(fresh))
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(fresh, folder, copy_function=shutil.move)
    return open_problem(folder)


def _generate(spec: GallerySpec, folder: Path) -> None:
    schema = spec.schema
    vectors = np.lib.format.open_memmap(
        folder / "vectors.npy", mode="w+", dtype=np.float16, shape=(spec.items, schema.width)
    )
    visibility = np.empty((spec.items, spec.parts), np.float32)
    people = np.empty(spec.items, np.int64)
    # Views of a person lie anywhere: a gallery fills as people walk by.
    places = np.random.default_rng([spec.seed, 1]).permutation(spec.items)
    asked: list[Views] = []
    for persons, shown, questions in _people(spec):
        at = places[persons.start * spec.views : persons.stop * spec.views]
        vectors[at] = shown.vectors[: len(at)]
        visibility[at] = shown.visibility[: len(at)]
        people[at] = np.repeat(np.arange(persons.start, persons.stop), spec.views)[: len(at)]
        asked.append(questions)
    vectors.flush()
    drawn, seen = (np.concatenate(side) for side in zip(*asked, strict=True))
    order = takes_turns(np.count_nonzero(seen >= 0.5, axis=1))
    queries = PartFeatures(drawn[order], seen[order], schema)
    save_problem(folder, schema, visibility, people, queries, asdict(spec))


def _people(spec: GallerySpec) -> Iterator[tuple[range, Views, Views]]:
    """Stretches of people, their views and those queries that show one of them."""
    bases = spectral_bases(spec)
    counts = np.resize(np.arange(2, spec.parts + 1), (spec.parts - 1) * spec.queries)
    wanted = np.arange(len(counts)) * spec.people // len(counts)  # ascending
    for start in range(0, spec.people, PEOPLE_AT_ONCE):
        persons = range(start, min(start + PEOPLE_AT_ONCE, spec.people))
        random = np.random.default_rng([spec.seed, 2, start])
        centres = random.standard_normal((len(persons), spec.parts, spec.dim), np.float32)
        owner = np.repeat(np.arange(len(persons)), spec.views)
        hidden = np.zeros((len(owner), spec.parts), np.bool_)
        hidden[:, 1:] = occluded_runs(random, len(owner), spec.parts - 1, spec.occluded)
        here = (wanted >= persons.start) & (wanted < persons.stop)
        covered = np.zeros((np.count_nonzero(here), spec.parts), np.bool_)
        covered[:, 1:] = covered_runs(random, spec.parts - counts[here], spec.parts - 1)
        yield (
            persons,
            _draw(random, centres[owner], hidden, spec.noise, bases),
            _draw(random, centres[wanted[here] - persons.start], covered, spec.noise, bases),
        )


def _draw(
    random: np.random.Generator, centres: Float32, hidden: NDArray[np.bool_], noise: float, bases: Float32
) -> Views:
    """A view of each person ``(n, P, D)`` with these parts hidden."""
    visibility = soft_visibility(random, hidden)
    signal = visibility.copy()
    signal[:, 0] = 1 - hidden[:, 1:].mean(axis=1) / 2
    mixed = signal[:, :, None] * centres + np.float32(noise) * random.standard_normal(centres.shape, np.float32)
    turned = np.matmul(mixed.transpose(1, 0, 2), bases)  # [P, n, D]
    turned /= np.linalg.norm(turned, axis=2, keepdims=True)
    return Views(turned.transpose(1, 0, 2).reshape(len(centres), bases.shape[0] * bases.shape[1]), visibility)


def spectral_bases(spec: GallerySpec) -> Float32:
    """B_p of the module's docstring, ``(P, D, D)``."""
    random = np.random.default_rng([spec.seed, 0])
    turns, _ = np.linalg.qr(random.standard_normal((spec.parts, spec.dim, spec.dim)))
    return (np.sqrt(spectrum(spec.dim, spec.decay))[:, None] * turns).astype(np.float32)


def spectrum(dim: int, decay: float) -> NDArray[np.float64]:
    """lambda, ``(D,)``, of sum D."""
    values = (1 + np.arange(dim) / KNEE) ** -decay
    return np.asarray(dim * values / values.sum())


def occluded_runs(random: np.random.Generator, count: int, body: int, share: float) -> NDArray[np.bool_]:
    """``(count, body)``: in ``share`` of the rows a contiguous run of 1 to body - 1 parts is hidden."""
    lengths = random.integers(1, max(2, body), count)
    lengths[random.random(count) >= share] = 0
    return covered_runs(random, lengths, body)


def covered_runs(random: np.random.Generator, lengths: Int64, body: int) -> NDArray[np.bool_]:
    """``(count, body)``: runs of these lengths, most from the feet up, some from the head down, some between."""
    kind = random.random(len(lengths))
    between = (random.random(len(lengths)) * (body - lengths + 1)).astype(np.int64)
    start = np.where(kind < 0.6, body - lengths, np.where(kind < 0.75, 0, between))
    part = np.arange(body)
    return (part >= start[:, None]) & (part < (start + lengths)[:, None])


def soft_visibility(random: np.random.Generator, hidden: NDArray[np.bool_]) -> Float32:
    """As networks tell it: 0.5 to 1 where visible, 0 to 0.3 where hidden; 1 for the first part."""
    seen = 0.5 + 0.5 * random.beta(6, 1.5, hidden.shape)
    unseen = 0.3 * random.beta(1, 3, hidden.shape)
    unseen[unseen < 0.02] = 0
    visibility = np.where(hidden, unseen, seen).astype(np.float32)
    visibility[:, 0] = 1
    return visibility


def participation(values: NDArray[np.float64]) -> float:
    """How many dimensions matter: ``(sum lambda)^2 / sum lambda^2``."""
    return float(values.sum() ** 2 / (values**2).sum())


def fitted_decay(features: PartFeatures, rows: int = 5_000) -> float:
    """The decay whose spectrum has the participation ratio of real parts, averaged over them; in [0, 8]."""
    schema = features.schema
    shares = []
    for p, columns in enumerate(schema.slices):
        seen = np.flatnonzero(features.visibility[:, p] >= 0.5)[:rows]
        if len(seen) > schema.dims[p]:
            variances = np.linalg.eigvalsh(np.cov(features.vectors[seen, columns].T.astype(np.float64)))
            shares.append(participation(variances) / schema.dims[p])
    if not shares:
        raise ValueError(f"too few rows to tell a spectrum: {len(features)} for parts {schema.describe()}")
    wanted, dim = float(np.mean(shares)), max(schema.dims)
    low, high = 0.0, 8.0
    for _ in range(40):
        middle = (low + high) / 2
        if participation(spectrum(dim, middle)) / dim > wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2
