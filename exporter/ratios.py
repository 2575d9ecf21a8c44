"""Fits of log LR over distance and joint visibility: monotone logistic functions and isotonic regressions.

Both see the pairs with *balanced* weights (half the mass on pairs of one person, half on pairs of two). The odds of a
regression are then the likelihood ratio itself, that of (d, j) together: where hidden people are as often compared with
themselves as with others, j alone moves nothing; where not, it does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from exporter.pairs import Pairs
from glimpse.calibration import MAX_LOG_RATIO, RatioTable

Float64 = NDArray[np.float64]

RIDGE = 1e-6
"""On squared node values, against a loss of log 2 for knowing nothing: what no pair tells stays near 0."""
NODES = 33
"""Distances at which an isotonic regression is kept."""
FEWEST_POSITIVES = 30
"""Pairs of one person in a bin of visible evidence."""

Kind = Literal["logistic", "isotonic"]


@dataclass(frozen=True)
class FitSpec:
    """One way to fit."""

    kind: Kind
    fit: Callable[[Pairs], RatioTable | None]
    """None where there are too few pairs for it."""
    about: str


def fit_logistic(pairs: Pairs, nodes: int = 2, rows: int = 2) -> RatioTable:
    """A logistic regression on (d, j, d j), or piecewise so between more nodes, that never grows with the distance.

    The values at the nodes are the parameters: those of the first distance are free, each next one is lower by a step
    of at least 0 (L-BFGS-B with bounds; the loss is convex). Nodes are quantiles of the pairs, so nothing is said of
    distances that never came up.
    """
    from scipy.optimize import minimize

    weight, same = pairs.balanced, pairs.same
    distance = _quantiles(pairs.distance, weight, np.linspace(0, 1, nodes), 2.0)
    joint = _quantiles(pairs.joint, weight, np.linspace(0.02, 0.98, rows), 1.0)
    if len(distance) < 2:
        distance = _spread(distance[0])
    across, down = _hats(distance, pairs.distance), _hats(joint, pairs.joint)  # [n, D], [n, J]
    # Going down by steps: value_k = first - step_1 - ... - step_k, so a step counts at its node and all later ones.
    lower = np.cumsum(across[:, ::-1], axis=1)[:, ::-1]
    lower = np.column_stack([lower[:, 0], -lower[:, 1:]])
    design = (down[:, :, None] * lower[:, None, :]).reshape(len(pairs), -1)  # [n, J D]
    sign = np.where(same, 1.0, -1.0)
    to_values = np.tril(-np.ones((len(distance), len(distance))))
    to_values[:, 0] = 1
    shape = (len(joint), len(distance))

    def loss(parameters: Float64) -> tuple[float, Float64]:
        margin = sign * (design @ parameters)
        slope = -weight * sign * np.exp(-np.logaddexp(0, margin))
        values = parameters.reshape(shape) @ to_values.T
        value = float(weight @ np.logaddexp(0, -margin)) + RIDGE / 2 * float((values**2).sum())
        return value, design.T @ slope + RIDGE * (values @ to_values).ravel()

    free, step = (None, None), (0.0, None)
    bounds = [free if column == 0 else step for _ in joint for column in range(len(distance))]
    found = minimize(loss, np.zeros(len(bounds)), jac=True, bounds=bounds, method="L-BFGS-B")
    return _table(distance, joint, found.x.reshape(shape) @ to_values.T)


def fit_isotonic(pairs: Pairs, bins: int = 1) -> RatioTable | None:
    """An isotonic regression on the distance in each bin of joint visibility, bins with as many pairs of one person.

    Runs of equal value are counted again with half a pair added on both sides (Krichevsky and Trofimov), so that a run
    without a pair of two people is no certainty. None where a bin has fewer than 30 pairs of one person.
    """
    from sklearn.isotonic import IsotonicRegression

    edges: Float64 = np.unique(np.quantile(pairs.joint[pairs.same], np.linspace(0, 1, bins + 1)[1:-1]))
    place = np.digitize(pairs.joint, edges)
    counts = np.bincount(place[pairs.same], minlength=bins)
    if len(edges) != bins - 1 or counts.min() < FEWEST_POSITIVES:
        return None
    distance = _quantiles(pairs.distance, pairs.balanced, np.linspace(0, 1, NODES), 2.0)
    if len(distance) < 2:
        distance = _spread(distance[0])
    of_one, of_two = np.count_nonzero(pairs.same), pairs.different
    joint, rows = [], []
    for bin_ in range(bins):
        mine = np.flatnonzero(place == bin_)
        d, same, weight = pairs.distance[mine].astype(np.float64), pairs.same[mine], pairs.weight[mine]
        regression = IsotonicRegression(increasing=False, out_of_bounds="clip", y_min=0, y_max=1)
        fitted = regression.fit_transform(d, same.astype(np.float64), sample_weight=pairs.balanced[mine])
        _, run = np.unique(-fitted, return_inverse=True)
        ones = np.bincount(run, np.where(same, weight, 0)) + 0.5
        twos = np.bincount(run, np.where(same, 0, weight)) + 0.5
        # Half a pair more may turn two neighbours round.
        ratio = np.minimum.accumulate(np.log(ones / (of_one + 0.5)) - np.log(twos / (of_two + 0.5)))
        order = np.argsort(d, kind="stable")
        rows.append(np.minimum.accumulate(np.interp(distance, d[order], ratio[run[order]])))
        joint.append(float(pairs.joint[mine][same].mean()))
    return _table(distance, np.array(joint), np.array(rows))


FITS: Mapping[str, FitSpec] = {
    "logistic": FitSpec("logistic", fit_logistic, "logistic on distance, joint visibility and their product"),
    "logistic-9": FitSpec("logistic", lambda pairs: fit_logistic(pairs, 9, 3), "the same, piecewise: 9 x 3 nodes"),
    "isotonic-1": FitSpec("isotonic", fit_isotonic, "isotonic on the distance alone"),
    "isotonic-3": FitSpec("isotonic", lambda pairs: fit_isotonic(pairs, 3), "isotonic in 3 bins of visible evidence"),
    "isotonic-5": FitSpec("isotonic", lambda pairs: fit_isotonic(pairs, 5), "isotonic in 5 bins of visible evidence"),
}


def log_loss(table: RatioTable, pairs: Pairs, prior: float) -> float:
    """Mean log loss in nats of P(same) under a prior, over pairs weighted to that prior.

    At prior 1/2 and divided by log 2 it is C_llr, the cost of likelihood ratios (Brummer and du Preez, 2006).
    """
    log_odds = table(pairs.distance, pairs.joint) + np.log(prior / (1 - prior))
    return float(pairs.under(prior) @ np.logaddexp(0, np.where(pairs.same, -log_odds, log_odds)))


def prior_loss(prior: float) -> float:
    """The log loss of whoever knows the prior and nothing else, in nats."""
    return float(-(prior * np.log(prior) + (1 - prior) * np.log1p(-prior)))


def _table(distance: Float64, joint: Float64, values: Float64) -> RatioTable:
    """Rounded as a bundle keeps it; rounding keeps the order."""
    bounded = np.clip(np.minimum.accumulate(values, axis=1), -MAX_LOG_RATIO, MAX_LOG_RATIO)
    return RatioTable(distance, joint, np.round(bounded, 4) + 0.0)


def _quantiles(values: NDArray[np.float32], weight: Float64, shares: Float64, most: float) -> Float64:
    """Weighted quantiles, rounded, each once."""
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(weight[order])
    where = np.searchsorted(cumulative, shares * cumulative[-1] * (1 - 1e-12))
    found = values[order][np.minimum(where, len(values) - 1)]
    return np.unique(np.clip(np.round(found.astype(np.float64), 4), 0, most))


def _spread(only: np.float64) -> Float64:
    """Two nodes about the one distance that came up."""
    return np.array([max(0.0, only - 1e-3), min(2.0, only + 1e-3)])


def _hats(nodes: Float64, values: NDArray[np.float32]) -> Float64:
    """Weights of each value's two neighbouring nodes, ``(n, nodes)``; a value beyond the nodes counts as the last."""
    if len(nodes) == 1:
        return np.ones((len(values), 1))
    unit = np.eye(len(nodes))
    return np.column_stack([np.interp(values, nodes, row) for row in unit])
