"""Which parts of a person can be seen, from joints or from a label map."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glimpse.people import PARTS
from trainer.data.annotated import UNKNOWN
from trainer.pose.keypoints import COCO17, GAMMA, KeyPoints

Float32 = NDArray[np.float32]
UInt8 = NDArray[np.uint8]

LEAST_JOINTS = 3
"""With fewer joints nothing is said about the stripes (PGFA)."""

SITES: dict[str, tuple[str, ...]] = {
    "face": ("nose", "left eye", "right eye", "left ear", "right ear"),
    "shoulders": ("left shoulder", "right shoulder"),
    "elbows": ("left elbow", "right elbow"),
    "wrists": ("left wrist", "right wrist"),
    "hips": ("left hip", "right hip"),
    "knees": ("left knee", "right knee"),
    "ankles": ("left ankle", "right ankle"),
}
"""Joints that stand for one place of the body. One of them is enough to see the place: of a person seen from the side
the own body hides the other, and that is no occlusion."""

REGION_SITES: dict[str, tuple[str, ...]] = {
    "global": tuple(SITES),
    "head": ("face",),
    "upper": ("shoulders", "hips"),
    "arms": ("elbows", "wrists"),
    "legs": ("knees", "ankles"),
    "feet": ("ankles",),
}
"""The places that say how much of each of Glimpse's regions is seen."""

LEAST_SHARE: dict[str, float] = {"head": 0.005, "upper": 0.01, "arms": 0.005, "legs": 0.01, "feet": 0.002}
"""Share of the image from which on a region counts as seen: one stray pixel is no evidence."""


def stripe_labels(
    person: KeyPoints | None, height: int, stripes: int, *, gamma: float = GAMMA, strict: bool = False
) -> Float32:
    """PGFA's part labels: stripe k of p is seen iff a kept joint has ``k H/p <= y < (k+1) H/p``.

    Args:
        person: None where there is no pose.
        height: of the image that the joints' pixels are of.
        stripes: p.
        gamma: joints above this confidence are kept.
        strict: as PGFA's code has it, a joint on a border belongs to neither stripe.

    Returns:
        float32 ``(p,)`` of 0 and 1; all 1 with fewer than `LEAST_JOINTS` kept joints or without a pose. Joints are
        those of ``openpose18``, so the neck counts.
    """
    if height < 1 or stripes < 1:
        raise ValueError(f"height and stripes must be at least 1, got {height} and {stripes}")
    if person is None:
        return np.ones(stripes, np.float32)
    person = person.to_openpose18()
    y = person.points[person.kept(gamma), 1].astype(np.float64)  # [kept]
    if len(y) < LEAST_JOINTS:
        return np.ones(stripes, np.float32)
    start = np.arange(stripes)[:, None] * height / stripes  # [p, 1]
    end = np.arange(1, stripes + 1)[:, None] * height / stripes
    inside = (start < y) & (y < end) if strict else (start <= y) & (y < end)  # [p, kept]
    return np.asarray(inside.any(axis=1), np.float32)


def visibility_from_joints(person: KeyPoints | None, *, gamma: float = GAMMA) -> Float32:
    """Of each of `PARTS`, the share of its `REGION_SITES` that shows at least one kept joint; float32 ``(6,)``.

    Without a pose, or with fewer than `LEAST_JOINTS` kept joints, all 1: nothing is known.
    """
    if person is None:
        return np.ones(len(PARTS), np.float32)
    person = person.to_coco17()
    kept = person.kept(gamma)
    if int(kept.sum()) < LEAST_JOINTS:
        return np.ones(len(PARTS), np.float32)
    seen = {site: bool(kept[[COCO17.index(joint) for joint in joints]].any()) for site, joints in SITES.items()}
    return np.array([np.mean([seen[site] for site in sites]) for sites in REGION_SITES.values()], np.float32)


def region_shares(regions: UInt8) -> Float32:
    """The share of the known pixels that shows the person and each region, by `PARTS`; float32 ``(6,)``.

    All 0 where nothing is known.

    Raises:
        ValueError: a map that is not uint8 ``(H, W)``, or a label beyond the regions.
    """
    if regions.ndim != 2 or regions.dtype != np.uint8:
        raise ValueError(f"a label map is uint8 (H, W), got {regions.dtype} {regions.shape}")
    counts = np.bincount(regions.ravel(), minlength=UNKNOWN + 1).astype(np.float64)
    if counts[len(PARTS) : UNKNOWN].any():
        raise ValueError(
            f"regions are 0 to {len(PARTS) - 1} or {UNKNOWN}, got {int(regions[regions != UNKNOWN].max())}"
        )
    known = counts[: len(PARTS)].sum()
    shares = counts[: len(PARTS)] / max(known, 1)
    shares[0] = shares[1:].sum()
    return np.asarray(shares, np.float32)


def visibility_from_regions(regions: UInt8, reference: Float32 | None = None) -> Float32:
    """How much of each of `PARTS` a label map shows; float32 ``(6,)`` in [0, 1].

    Args:
        regions: uint8 ``(H, W)`` of Glimpse's regions.
        reference: the shares of a whole person, ``(6,)`` as `region_shares` gives them, for example a data set's upper
            quartile: visibility is the share over the reference, at most 1. Without one it is 0 or 1, by
            `LEAST_SHARE`: a photograph does not tell how much its obstacles hide.
    """
    shares = region_shares(regions)
    if reference is None:
        seen = shares[1:] >= np.array(list(LEAST_SHARE.values()), np.float32)
        return np.concatenate([[seen.any()], seen]).astype(np.float32)
    if reference.shape != shares.shape or not (reference > 0).all():
        raise ValueError(f"the reference is {shares.shape} positive shares, got {reference}")
    return np.asarray(np.minimum(shares / reference, 1), np.float32)
