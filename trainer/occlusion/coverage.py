"""How much of each horizontal stripe is covered, and FED's labels of occluded stripes. Knows no torch."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
RATIO = 3.0
"""By how much FED's most covered stripe must lead the next to be the only one it calls occluded."""


def stripe_coverage(covered: NDArray[np.bool_], stripes: int = 4) -> Float32:
    """Covered share of each horizontal stripe, from the top; float32 ``(..., stripes)`` for a mask ``(..., H, W)``.

    Stripe i has the rows from ``floor(i H / stripes)`` to ``ceil((i + 1) H / stripes)``, those that adaptive average
    pooling gives a part; none is empty, however small the image.

    Raises:
        ValueError: fewer than one stripe, or not a mask.
    """
    if stripes < 1:
        raise ValueError(f"stripes must be at least 1, got {stripes}")
    if covered.ndim < 2 or covered.dtype != np.bool_ or not covered.shape[-1] * covered.shape[-2]:
        raise ValueError(f"covered must be bool (..., H, W) with pixels, got {covered.dtype} {covered.shape}")
    height = covered.shape[-2]
    rows = covered.mean(axis=-1)  # [..., H]
    starts = [i * height // stripes for i in range(stripes)]
    ends = [-(-(i + 1) * height // stripes) for i in range(stripes)]
    shares = [rows[..., start:end].mean(axis=-1) for start, end in zip(starts, ends, strict=True)]
    return np.stack(shares, axis=-1).astype(np.float32)


def fed_labels(
    covered: NDArray[np.generic],
    rule: Literal["legacy", "fraction"] = "legacy",
    threshold: float | None = None,
    stripes: int = 4,
) -> Float32:
    """Visibility labels of FED (Wang et al., CVPR 2022): 1 for a stripe that is to be kept, 0 for an occluded one.

    ``legacy`` is the rule of the public code, which the published figures come from. A stripe is touched when anything
    of it is covered. All touched, or none: all are visible, so an occluder as high as the image leaves no trace. One
    touched: it is occluded. Otherwise, if the most covered has more than three times the next, it alone is occluded,
    else every touched one. (The code compares mean differences of pixels, which coverage stands for here; differences
    may be given as well.)

    ``fraction`` mends it: what counts is how much of a stripe is covered, wherever the occluder stands.

    Args:
        covered: a mask, bool ``(..., H, W)``, or a number a stripe, float ``(..., stripes)``.
        rule: which.
        threshold: of ``fraction``: covered shares from here on are labelled 0. Left out, the label is soft: the share
            that is still seen.
        stripes: of a mask.

    Returns:
        float32 ``(..., stripes)``.
    """
    shares = stripe_coverage(np.asarray(covered, np.bool_), stripes) if covered.dtype == np.bool_ else covered
    amount = np.asarray(shares, np.float32)  # [..., P]
    if amount.ndim < 1 or not amount.shape[-1] or not (amount >= 0).all():
        raise ValueError(f"coverage must be at least 0 for each of one or more stripes, got shape {amount.shape}")
    if rule == "fraction":
        if (amount > 1).any():
            raise ValueError(f"coverage must be shares within [0, 1], got {amount.max()}")
        if threshold is None:
            return np.asarray(1 - amount, np.float32)
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold must be above 0 and at most 1, got {threshold}")
        return (amount < threshold).astype(np.float32)
    if rule != "legacy":
        raise ValueError(f"unknown rule {rule!r}; choose from ['fraction', 'legacy']")
    if threshold is not None:
        raise ValueError(f"rule 'legacy' has no threshold, got {threshold}; rule 'fraction' has")
    touched = amount > 0
    number = touched.sum(axis=-1, keepdims=True)  # [..., 1]
    most = amount.max(axis=-1, keepdims=True)
    second = np.sort(amount, axis=-1)[..., -2:-1] if amount.shape[-1] > 1 else np.zeros_like(most)
    occluded = np.where(most > RATIO * second, amount == most, touched) & touched
    return np.where((number == 0) | (number == amount.shape[-1]), True, ~occluded).astype(np.float32)
