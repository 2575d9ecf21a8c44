"""From distance and joint visibility to the probability that two images show one person.

What is stored is a *likelihood ratio*, which says how much likelier a pair of this distance d and this joint visibility
j (`glimpse.distance`) is when both images show one person than when they show two; and a *prior* pi, the share of
same-person pairs among all pairs that are compared. By Bayes' rule

    LR(d, j)    = p(d, j | one person) / p(d, j | two people)
    P(same)     = pi LR / (pi LR + 1 - pi),     that is   logit P = log LR + logit pi

so whoever knows better how often a compared pair is of one person keeps LR and puts in a prior of its own: in a gallery
of N people that holds the person sought with probability h, pi = h / N. A probability under another prior is turned by
`with_prior`, without the ratio at hand.

log LR is bilinear between the nodes of a table and constant beyond them; it never grows with the distance. A logistic
function of d, j and d x j is a table of two by two, isotonic regressions by visible evidence are a finer one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from glimpse.parts import Float32, PartSchema

Float64 = NDArray[np.float64]

MAX_NODES = 256
"""Along each axis of the table."""
MAX_LOG_RATIO = 40.0
"""No set of pairs supports more; its exponential is far from overflow."""

Distance = Annotated[float, Field(ge=0, le=2)]
Share = Annotated[float, Field(ge=0, le=1)]
OpenShare = Annotated[float, Field(gt=0, lt=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class RatioTable:
    """log LR over distance and joint visibility: bilinear between the nodes, constant beyond them.

    Args:
        distance: float64 ``(D,)``, ascending, D at least 2.
        joint: float64 ``(J,)``, ascending, J at least 1.
        log_ratio: float64 ``(J, D)``.
    """

    distance: Float64
    joint: Float64
    log_ratio: Float64

    def __call__(self, distance: ArrayLike, joint: ArrayLike) -> Float64:
        """log LR of pairs, float64 of the common shape; NaN where the distance is NaN."""
        d, j = np.broadcast_arrays(np.asarray(distance, np.float64), np.asarray(joint, np.float64))
        column, across = _place(self.distance, d)
        if len(self.joint) == 1:
            return _between(self.log_ratio[0, column], self.log_ratio[0, column + 1], across)
        row, down = _place(self.joint, j)
        here = _between(self.log_ratio[row, column], self.log_ratio[row, column + 1], across)
        below = _between(self.log_ratio[row + 1, column], self.log_ratio[row + 1, column + 1], across)
        return _between(here, below, down)


class CalibrationSource(_Strict):
    """What a calibration was made from: enough to make it again."""

    data: str
    facts: tuple[str, ...] = ()
    """Of the data's protocol and of how pairs were taken."""
    command: str
    seed: int
    """Of the split of the people and the draw of pairs."""
    created_at: datetime
    versions: dict[str, str] = Field(default_factory=dict)
    counts: dict[str, int] = Field(default_factory=dict)
    """``fit_people``, ``fit_same``, ``fit_different``, ``held_out_people``, ... : people and pairs."""


class RateThreshold(_Strict):
    """Accept pairs at this distance or less, and so many of the pairs of two people are accepted."""

    false_match_rate: OpenShare
    """What was asked for; the threshold was chosen on the people of the fit."""
    distance: Distance
    low: Distance
    """95 % interval of the threshold (bootstrap over people)."""
    high: Distance
    held_out_rate: Share
    """What it gave on people that it was not chosen on."""
    held_out_low: Share
    """95 % interval of that rate (bootstrap over people)."""
    held_out_high: Share
    held_out_found: Share
    """Share of the pairs of one person that it accepted there."""


class GalleryThreshold(_Strict):
    """Accept the closest of N people at this distance or less, and strangers are taken for one of them so often."""

    people: int = Field(ge=1)
    """N."""
    fpir: OpenShare
    """What was asked for (`glimpse.open_set`)."""
    distance: Distance
    """Median over random galleries."""
    low: Distance
    """95 % of the random galleries lie between."""
    high: Distance
    held_out_fpir: Share | None = None
    held_out_fnir: Share | None = None
    """FNIR(N, N, T)."""
    extrapolated: bool = False
    """No gallery of N people was at hand: FPIR(N, T) = 1 - (1 - FPIR(1, T))^N, which takes people as independent."""


class Calibration(_Strict):
    """A bundle's calibration: the table of log LR, the prior, and what was measured on held-out people."""

    format: Literal[1] = 1
    model_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the float32 graph whose distances these are."""
    parts: dict[str, float]
    """Name -> weight of the schema's parts, in order: with other weights a distance means something else."""
    distance_prior: float = Field(ge=0)
    """The schema's prior, which is part of the distance."""
    kind: Literal["isotonic", "logistic"]
    distance: tuple[float, ...] = Field(min_length=2, max_length=MAX_NODES)
    """Nodes, ascending, in [0, 2]."""
    joint_visibility: tuple[float, ...] = Field(min_length=1, max_length=MAX_NODES)
    """Nodes, ascending, in [0, 1]."""
    log_likelihood_ratio: tuple[tuple[float, ...], ...]
    """Natural logarithm: a row a joint visibility, a column a distance; never growing along a row."""
    prior: OpenShare
    """Share of same-person pairs that a probability assumes unless told otherwise."""
    source: CalibrationSource
    metrics: dict[str, float] = Field(default_factory=dict)
    """On held-out people: expected calibration error and log loss, overall and by evidence."""
    thresholds: tuple[RateThreshold, ...] = ()
    gallery_thresholds: tuple[GalleryThreshold, ...] = ()

    @model_validator(mode="after")
    def _is_a_monotone_table(self) -> Calibration:
        for name, nodes, most in (
            ("distance", self.distance, 2.0),
            ("joint_visibility", self.joint_visibility, 1.0),
        ):
            if not all(0 <= node <= most for node in nodes) or any(a >= b for a, b in pairwise(nodes)):
                raise ValueError(f"{name} must be ascending nodes within [0, {most:g}], got {list(nodes)[:8]}")
        rows, shape = self.log_likelihood_ratio, (len(self.joint_visibility), len(self.distance))
        if len(rows) != shape[0] or any(len(row) != shape[1] for row in rows):
            raise ValueError(
                f"log_likelihood_ratio must be {shape[0]} rows (joint visibilities) of {shape[1]} (distances), got "
                f"{len(rows)} rows of {sorted({len(row) for row in rows})}"
            )
        for joint, row in zip(self.joint_visibility, rows, strict=True):
            if any(abs(value) > MAX_LOG_RATIO for value in row):
                raise ValueError(f"log_likelihood_ratio must be within {MAX_LOG_RATIO:g} of 0, got {max(row, key=abs)}")
            if any(later > earlier for earlier, later in pairwise(row)):
                raise ValueError(f"log_likelihood_ratio must not grow with the distance, but does at joint {joint:g}")
        return self

    def check_model(self, schema: PartSchema, model_sha256: str) -> None:
        """ValueError when this calibration is of another model or schema, naming both."""
        if not self.fits(schema):
            ours = ", ".join(f"{name} {weight:g}" for name, weight in self.parts.items())
            theirs = ", ".join(f"{part.name} {part.weight:g}" for part in schema.parts)
            raise ValueError(
                f"calibration is of another schema: its parts and weights are {ours} with prior "
                f"{self.distance_prior:g}, the model's are {theirs} with prior {schema.prior:g}; make it again with "
                "glimpse calibrate"
            )
        if self.model_sha256 != model_sha256:
            raise ValueError(
                f"calibration is of the model with sha {self.model_sha256[:8]}, this one has sha {model_sha256[:8]}; "
                "make it again with glimpse calibrate"
            )

    def fits(self, schema: PartSchema) -> bool:
        """Whether distances by this schema are those that were calibrated: same parts, weights and prior."""
        # A schema that came over the wire has float32 weights.
        ours, theirs = [*self.parts.values(), self.distance_prior], [part.weight for part in schema.parts]
        return tuple(self.parts) == schema.names and all(
            math.isclose(a, b, rel_tol=1e-6) for a, b in zip(ours, [*theirs, schema.prior], strict=True)
        )

    def log_ratio(self, distance: ArrayLike, joint_visibility: ArrayLike) -> Float64:
        """log LR of pairs, float64 of the common shape; NaN where the distance is NaN (incomparable)."""
        return self._table(distance, joint_visibility)

    def probability(self, distance: ArrayLike, joint_visibility: ArrayLike, *, prior: float | None = None) -> Float32:
        """P(same) of pairs, float32 in [0, 1] of the common shape; NaN where the distance is NaN.

        Args:
            prior: in (0, 1), instead of the stored one.

        Raises:
            ValueError: a prior out of range.
        """
        chosen = self.prior if prior is None else check_prior(prior)
        log_odds = self.log_ratio(distance, joint_visibility) + _logit(chosen)
        with np.errstate(invalid="ignore"):  # NaN stays NaN, and says so here
            return np.asarray(np.exp(-np.logaddexp(0, -log_odds)), np.float32)

    @cached_property
    def _table(self) -> RatioTable:
        return RatioTable(np.array(self.distance), np.array(self.joint_visibility), np.array(self.log_likelihood_ratio))


def with_prior(probability: ArrayLike, stated: float, own: float) -> Float64:
    """Probabilities that were made under the ``stated`` prior, under one's ``own``: the odds change by the same factor.

        odds' = odds x (own / (1 - own)) / (stated / (1 - stated))

    Raises:
        ValueError: a prior outside (0, 1) or a probability outside [0, 1]; NaN stays NaN.
    """
    given = np.asarray(probability, np.float64)
    if ((given < 0) | (given > 1)).any():
        raise ValueError(f"probabilities must be within [0, 1], got {given.min():g} to {given.max():g}")
    same = given * check_prior(own) * (1 - check_prior(stated))
    return np.asarray(same / (same + (1 - given) * (1 - own) * stated), np.float64)


def check_prior(prior: float) -> float:
    """The prior itself when it lies in (0, 1); ValueError otherwise."""
    if not 0 < prior < 1:  # also refuses NaN
        raise ValueError(f"a prior is the share of same-person pairs, within (0, 1) without its ends; got {prior}")
    return prior


def _logit(p: float) -> float:
    return float(np.log(p) - np.log1p(-p))


def _place(nodes: Float64, values: Float64) -> tuple[NDArray[np.int64], Float64]:
    """Left node and the way to the next, in [0, 1]; NaN goes to the last and stays NaN."""
    left = np.clip(np.searchsorted(nodes, values, side="right") - 1, 0, len(nodes) - 2)
    start = nodes[left]
    return left, np.clip((values - start) / (nodes[left + 1] - start), 0.0, 1.0)


def _between(start: Float64, end: Float64, way: Float64) -> Float64:
    return np.asarray(start + (end - start) * way, np.float64)
