"""The robustness curve: how figures fall as more of every query is covered, with visibility weighting and without.

Queries are covered by the recipe of `trainer.occlusion.protocol` at fixed shares of one side, the same side and the
same background at every share; the gallery stays clean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from glimpse.metrics import RetrievalMetrics
from glimpse.preprocessing import Preprocessing
from trainer.data.listing import ImageSet, Listing
from trainer.evaluation.features import BATCH, Extraction, Extractor, Progress, extract
from trainer.evaluation.ranking import rank

RATIOS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)

Occlude = Callable[[ImageSet, ImageSet, int, tuple[float, float]], ImageSet]
"""Queries, other images, seed and the range of the covered share, to covered queries."""


@dataclass(frozen=True)
class RobustnessPoint:
    """Figures at one covered share of a side."""

    ratio: float
    rows: Mapping[str, RetrievalMetrics]
    """``weighted`` and ``unweighted``."""


@dataclass(frozen=True)
class Robustness:
    """The curve, by ascending share, and the facts of its protocol."""

    points: tuple[RobustnessPoint, ...]
    facts: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        points = [
            {"ratio": point.ratio, **{name: row.to_dict() for name, row in point.rows.items()}} for point in self.points
        ]
        return {"protocol": list(self.facts), "points": points}


def measure_robustness(
    extraction: Extraction,
    listing: Listing,
    preprocessing: Preprocessing,
    run: Extractor,
    progress: Progress | None = None,
    *,
    ratios: tuple[float, ...] = RATIOS,
    seed: int = 0,
    batch: int = BATCH,
    occlude: Occlude | None = None,
) -> Robustness:
    """Features of the queries at each share, ranked against the gallery of ``extraction``.

    Args:
        extraction: of ``listing`` by ``run``; its queries are those at share 0.
        listing: where the queries are loaded from.
        preprocessing: the model's.
        run: the model. One that is given key-points has no place here: whose joints are covered is not known.
        progress: ``progress(done, all)`` counts images.
        ratios: covered shares of a side, ascending.
        seed: of sides and background.
        batch: images a batch.
        occlude: another recipe than the protocol's.

    Raises:
        ValueError: shares are not ascending within [0, 1); what `rank` raises.
        DatasetError: the background of another person is needed and there is none.
    """
    if list(ratios) != sorted(set(ratios)) or not all(0 <= ratio < 1 for ratio in ratios):
        raise ValueError(f"covered shares must ascend within [0, 1), got {list(ratios)}")
    cover = occlude or _protocol()
    covered = [ratio for ratio in ratios if ratio > 0]
    everything = len(covered) * len(listing.query)
    found = []
    for ratio in ratios:
        query = extraction.query
        if ratio > 0:
            before = covered.index(ratio) * len(listing.query)

            def report(done: int, _: int, before: int = before) -> None:
                if progress:
                    progress(before + done, everything)

            images = cover(listing.query, listing.gallery, seed, (ratio, ratio))
            query = extract(images, preprocessing, run, report, batch=batch)
        rows = {
            name: rank(query, extraction.gallery, weighted=name == "weighted", shots=extraction.shots)
            for name in ("weighted", "unweighted")
        }
        found.append(RobustnessPoint(ratio, rows))
    facts = (
        f"robustness: every query with a share of one side covered (seed {seed}), the bottom twice as likely as top, "
        "left or right, by background of another person's image; the same side and background at every share; the "
        "gallery stays as it is",
        f"share 0 is {extraction.name} itself",
    )
    return Robustness(tuple(found), facts)


def _protocol() -> Occlude:
    from trainer.occlusion.protocol import occluded_queries

    return lambda query, others, seed, ratio: occluded_queries(query, others, seed=seed, ratio=ratio)
