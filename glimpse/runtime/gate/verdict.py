"""The parity gate: features of a runtime against the trained model's, part by part and ranking by ranking."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glimpse.parts import PartFeatures
from glimpse.precision import GateFigures, GateLimits, Precision
from glimpse.runtime.gate.agreement import agreement, rank
from glimpse.runtime.gate.fixture import Fixture, Progress, Reference
from glimpse.runtime.session import Session

BATCH = 16
MATES = 8
"""Images that are also run alone."""

Extract = Callable[[NDArray[np.uint8]], PartFeatures]


@dataclass(frozen=True)
class Verdict:
    """What was measured, and what was allowed."""

    figures: GateFigures
    limits: GateLimits
    left_out: int = 0
    """Images that this machine draws otherwise than the one of the reference."""

    @property
    def problems(self) -> tuple[str, ...]:
        """One sentence for each limit that was passed; empty when all hold."""
        return tuple(self.figures.problems(self.limits))

    @property
    def passed(self) -> bool:
        return not self.problems

    def lines(self) -> list[str]:
        """A table for people: a row a part, a row a ranking, and an exclamation mark where a limit was passed."""
        figures, limits = self.figures, self.limits
        found = [
            f"{figures.precision} on {figures.provider}: {figures.queries:,} occluded queries, "
            f"{figures.gallery:,} gallery images; reference mAP {figures.reference_mAP:.2%}, "
            f"Rank-1 {figures.reference_rank1:.2%}",
            f"  {'part':<14}{'least cosine':>14}{'visibility off':>16}",
        ]
        if self.left_out:
            found.insert(1, f"  {self.left_out} images are left out: this machine draws them with other pixels")
        for part, cosine in figures.min_cosine.items():
            differs = figures.max_visibility_difference[part]
            bad = not (cosine >= limits.min_cosine and differs <= limits.max_visibility_difference)
            found.append(f"{'!' if bad else ' '} {part:<14}{cosine:>14.6f}{differs:>16.6f}")
        found.append(f"  {'limit':<14}{limits.min_cosine:>14g}{limits.max_visibility_difference:>16g}")
        found.append(f"  {'gallery':<14}{'same first':>14}{'same ten':>16}{'mAP lost':>26}{'Rank-1 lost':>26}")
        for name, ranking in (("its own", figures.own), ("float32", figures.mixed)):
            bad = not (
                ranking.top1 >= limits.min_top1
                and ranking.top10 >= limits.min_top10
                and ranking.mAP_drop <= limits.max_mAP_drop
                and ranking.rank1_drop <= limits.max_rank1_drop
            )
            found.append(
                f"{'!' if bad else ' '} {name:<14}{ranking.top1:>14.2%}{ranking.top10:>16.2%}"
                f"{_lost(ranking.mAP_drop, ranking.mAP_drop_interval):>26}"
                f"{_lost(ranking.rank1_drop, ranking.rank1_drop_interval):>26}"
            )
        found.append(
            f"  {'limit':<14}{limits.min_top1:>14.2%}{limits.min_top10:>16.2%}"
            f"{100 * limits.max_mAP_drop:>26.2f}{100 * limits.max_rank1_drop:>26.2f}"
        )
        moved, most = figures.batch_mate_difference, limits.max_batch_mate_difference
        mark = " " if moved <= most else "!"
        found.append(f"{mark} an image's features move with its batch mates by {moved:.2g} (at most {most:g})")
        return found


def measure(
    extract: Extract,
    images: NDArray[np.uint8],
    fixture: Fixture,
    reference: PartFeatures,
    *,
    precision: Precision,
    provider: str,
    progress: Progress | None = None,
) -> GateFigures:
    """Runs the fixture's images and compares with the reference.

    Args:
        extract: uint8 ``(N, H, W, 3)`` to part features.
        images: all of the fixture's.
        reference: the trained model's features of them all.
        precision, provider: what they are called in the figures.
        progress: called after every batch, in images.

    Raises:
        ValueError: features of another schema.
    """
    rows = fixture.rows
    features = run_in_batches(extract, images, progress, rows).stored()  # as the reference is
    reference = reference[rows]
    schema = reference.schema
    if not schema.same_layout(features.schema):
        raise ValueError(f"the reference has parts {schema.describe()}, the model {features.schema.describe()}")
    some = images[rows[:MATES]]
    together, alone = extract(some), [extract(some[row : row + 1]) for row in range(len(some))]
    mates = max(
        float(np.abs(together.vectors - np.concatenate([one.vectors for one in alone])).max()),
        float(np.abs(together.visibility - np.concatenate([one.visibility for one in alone])).max()),
    )
    asked, who = fixture.is_query, fixture.identity
    people, others = who[asked], who[~asked]
    expected = rank(reference[asked], reference[~asked], people, others)
    return GateFigures(
        precision=precision,
        provider=provider,
        queries=len(people),
        gallery=len(others),
        min_cosine=dict(zip(schema.names, weighted_cosines(reference, features), strict=True)),
        max_visibility_difference=dict(
            zip(schema.names, np.abs(reference.visibility - features.visibility).max(axis=0).tolist(), strict=True)
        ),
        batch_mate_difference=mates,
        reference_mAP=float(expected.precision.mean()),
        reference_rank1=float(expected.hit.mean()),
        own=agreement(expected, rank(features[asked], features[~asked], people, others)),
        mixed=agreement(expected, rank(features[asked], reference[~asked], people, others)),
    )


def judge(
    session: Session, *, queries: int | None = None, progress: Progress | None = None, drawing: Progress | None = None
) -> Verdict:
    """Runs the gate on an open session against the bundle's own reference and limits.

    Args:
        queries: how many of the reference's queries; all when None.
        progress: called after every batch. drawing: called while the people are drawn, unless they are cached.

    Raises:
        BundleError: the bundle carries no reference.
        GateError: the reference cannot be read, is smaller, or is of other images than this machine draws.
    """
    reference = Reference.in_bundle(session.bundle)
    if queries is not None:
        reference = reference.first(queries)
    images = Fixture(reference.queries, reference.seed).images(session.bundle.preprocessing, progress=drawing)
    fixture = reference.fixture(images)
    figures = measure(
        session.run,
        images,
        fixture,
        reference.features,
        precision=session.precision,
        provider=session.provider,
        progress=progress,
    )
    return Verdict(figures, session.bundle.manifest.entry(session.precision).limits, len(fixture.left_out))


def weighted_cosines(reference: PartFeatures, features: PartFeatures) -> list[float]:
    """For each part the smallest ``1 - v (1 - cos)`` over the images; v is the reference's visibility.

    A part that nobody can see may point anywhere; one that is half seen counts half.
    """
    least = []
    for p, columns in enumerate(reference.schema.slices):
        a = reference.vectors[:, columns].astype(np.float64)
        b = features.vectors[:, columns].astype(np.float64)
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        products = np.einsum("nd,nd->n", a, b)
        # A part that was seen but came out as zeros has no cosine: count it as 0.
        cosine = np.divide(products, norms, out=np.zeros_like(norms), where=norms > 0)
        least.append(float((1 - reference.visibility[:, p] * (1 - cosine)).min()))
    return least


def run_in_batches(
    extract: Extract,
    images: NDArray[np.uint8],
    progress: Progress | None,
    rows: NDArray[np.int64] | None = None,
) -> PartFeatures:
    """The features of all images, or of some rows of them, in batches of 16."""
    rows = np.arange(len(images)) if rows is None else rows
    pieces = []
    for start in range(0, len(rows), BATCH):
        pieces.append(extract(images[rows[start : start + BATCH]]))  # a copy: the cache is read-only
        if progress:
            progress(min(start + BATCH, len(rows)), len(rows))
    return PartFeatures.concatenate(pieces)


def _lost(drop: float, interval: tuple[float, float]) -> str:
    return f"{100 * drop:+.2f} ({100 * interval[0]:+.2f} .. {100 * interval[1]:+.2f})"
