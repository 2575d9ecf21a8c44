"""Made-up features of people seen by cameras: the less is visible, the noisier the vectors."""

from __future__ import annotations

import numpy as np

from exporter.pairs import Pairs
from glimpse.parts import Part, PartFeatures, PartSchema
from trainer.evaluation.features import Extraction, LabelledFeatures

SCHEMA = PartSchema((Part("global", 8), Part("upper", 6, weight=2.0), Part("legs", 6)), prior=0.1)


def shots(people: np.ndarray, cameras: np.ndarray, seed: int, *, hide: float) -> LabelledFeatures:
    """One row for each of ``people``, by each of ``cameras``."""
    faces = np.random.default_rng(1_000).normal(size=(10_000, SCHEMA.width))
    random = np.random.default_rng(seed)
    visibility = np.where(random.random((len(people), len(SCHEMA))) < hide, 0.15, 1.0)
    noise = np.repeat(0.45 / np.sqrt(visibility), SCHEMA.dims, axis=1)
    vectors = faces[people] + noise * random.normal(size=(len(people), SCHEMA.width))
    for columns in SCHEMA.slices:
        vectors[:, columns] /= np.linalg.norm(vectors[:, columns], axis=1, keepdims=True)
    features = PartFeatures(vectors.astype(np.float32), visibility.astype(np.float32), SCHEMA)
    return LabelledFeatures(features, tuple(map(str, range(len(people)))), people, cameras)


def extraction(people: int = 60, *, cameras: int = 3, hide: float = 0.4, seed: int = 0) -> Extraction:
    """Two queries and four gallery images a person, all cameras in turn, as a server stores them."""
    query, gallery = np.repeat(np.arange(people), 2), np.repeat(np.arange(people), 4)
    asked = shots(query, np.arange(len(query)) % cameras, seed, hide=hide)
    stored = shots(gallery, np.arange(len(gallery)) % cameras, seed + 1, hide=hide / 2)
    rounded = LabelledFeatures(stored.features.stored(), stored.ids, stored.people, stored.cameras)
    return Extraction("made up", ("vectors with noise",), asked, rounded, {"model": "nobody"})


def gaussian_pairs(count: int = 4_000, *, apart: float = 0.6, seed: int = 0, people: int = 80) -> Pairs:
    """Distances of one person and of two, normal with deviation 0.12; log LR is linear in the distance, and its slope
    grows with the evidence: at joint 1 the two means are ``apart``, at joint 0 they are one."""
    random = np.random.default_rng(seed)
    same = np.arange(count) % 5 == 0
    joint = random.random(count)
    mean = np.where(same, 0.8 - apart * joint / 2, 0.8 + apart * joint / 2)
    distance = np.clip(random.normal(mean, 0.12), 0, 2)
    who = random.integers(people, size=count)
    whom = np.where(same, who, (who + random.integers(1, people, size=count)) % people)
    return Pairs(distance.astype(np.float32), joint.astype(np.float32), same, np.ones(count), who, whom)


def gaussian_log_ratio(distance: np.ndarray, joint: np.ndarray, apart: float = 0.6) -> np.ndarray:
    """The truth of `gaussian_pairs`."""
    return (0.8 - distance) * apart * joint / 0.12**2
