"""The numbers a model may compute in, and how far each may be from the model that was trained.

float16 and int8 are graphs of their own in the bundle; bfloat16 is the float32 graph on a runtime that computes in
bfloat16 (OpenVINO). What an export came to is kept in the manifest as `GateFigures`, what it may come to as
`GateLimits`; `glimpse.runtime.gate` measures.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

Precision = Literal["float32", "bfloat16", "float16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
GRAPH = "model.onnx"
FILES: dict[Precision, str] = {
    "float32": GRAPH,
    "bfloat16": GRAPH,
    "float16": "model.fp16.onnx",
    "int8": "model.int8.onnx",
}
"""The graph of each precision, by its name in the bundle."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GoldenTolerance(_Strict):
    """How far a runtime may be from the stored golden outputs."""

    min_cosine: float = Field(default=0.999, gt=0, le=1)
    max_visibility_difference: float = Field(default=0.02, ge=0, le=1)


class Agreement(_Strict):
    """How far two rankings of the same queries are apart: features of one runtime against the reference's."""

    top1: float = Field(ge=0, le=1)
    """Share of queries with the same first item."""
    top10: float = Field(ge=0, le=1)
    """Mean share of the first ten items that are the same, in any order."""
    mAP_drop: float
    """Reference minus this one; positive is worse."""
    mAP_drop_interval: tuple[float, float]
    """95 %, by a bootstrap over the queries, each with its own difference."""
    rank1_drop: float
    rank1_drop_interval: tuple[float, float]


class GateLimits(_Strict):
    """What one precision may cost; the parity gate fails on anything beyond it."""

    min_cosine: float = Field(gt=-1, le=1)
    """Of every part of every image, weighted by the reference's visibility: ``1 - v (1 - cos)``."""
    max_visibility_difference: float = Field(ge=0, le=1)
    min_top1: float = Field(ge=0, le=1)
    min_top10: float = Field(ge=0, le=1)
    max_mAP_drop: float = Field(ge=0, le=1)
    max_rank1_drop: float = Field(ge=0, le=1)
    max_batch_mate_difference: float = Field(default=1e-3, ge=0)
    """How far any output of an image may move with the images beside it in the batch."""


class GateFigures(_Strict):
    """What the parity gate measured of one precision on one provider."""

    precision: Precision
    provider: str
    queries: int = Field(ge=1)
    gallery: int = Field(ge=1)
    min_cosine: dict[str, float]
    """Part -> the smallest weighted cosine over all images."""
    max_visibility_difference: dict[str, float]
    """Part -> the largest difference over all images."""
    batch_mate_difference: float
    reference_mAP: float
    reference_rank1: float
    own: Agreement
    """Queries and gallery both by this runtime: a gallery that was filled with it."""
    mixed: Agreement
    """Queries by this runtime, gallery by the reference: a gallery that was filled in float32 before."""

    def problems(self, limits: GateLimits) -> Iterator[str]:
        """One sentence for each limit that was passed."""
        for part, cosine in self.min_cosine.items():
            if not cosine >= limits.min_cosine:
                yield f"part {part!r} has a smallest cosine of {cosine:.5f}, at least {limits.min_cosine} is needed"
        for part, differs in self.max_visibility_difference.items():
            if not differs <= limits.max_visibility_difference:
                most = limits.max_visibility_difference
                yield f"the visibility of part {part!r} differs by {differs:.4f}, at most {most} is allowed"
        if not self.batch_mate_difference <= limits.max_batch_mate_difference:
            yield (
                f"features depend on their batch mates: they move by {self.batch_mate_difference:.2g}, at most "
                f"{limits.max_batch_mate_difference:g} is allowed"
            )
        for kind, ranking in (("its own", self.own), ("a float32", self.mixed)):
            where = f"in {kind} gallery"
            for what, share, least in (
                ("the same first item", ranking.top1, limits.min_top1),
                ("of the first ten items the same", ranking.top10, limits.min_top10),
            ):
                if not share >= least:
                    yield f"{share:.2%} {what} {where}, at least {least:.2%} is needed"
            for what, drop, most in (
                ("mAP", ranking.mAP_drop, limits.max_mAP_drop),
                ("Rank-1", ranking.rank1_drop, limits.max_rank1_drop),
            ):
                if not drop <= most:
                    yield f"{what} falls by {100 * drop:.2f} points {where}, at most {100 * most:.2f} are allowed"


class PrecisionEntry(_Strict):
    """One precision of a bundle."""

    golden: GoldenTolerance
    limits: GateLimits
    kept_in_float: tuple[str, ...] = ()
    """Groups of layers that measuring found too sensitive for it, and that stay in float32."""
    figures: tuple[GateFigures, ...] = ()
    """What the gate measured when the bundle was made."""


DEFAULTS: dict[Precision, PrecisionEntry] = {
    "float32": PrecisionEntry(
        golden=GoldenTolerance(),
        limits=GateLimits(
            min_cosine=0.9999,
            max_visibility_difference=1e-3,
            min_top1=0.995,
            min_top10=0.99,
            max_mAP_drop=1e-3,
            max_rank1_drop=2e-3,
        ),
    ),
    "bfloat16": PrecisionEntry(
        golden=GoldenTolerance(min_cosine=0.99, max_visibility_difference=0.05),
        limits=GateLimits(
            min_cosine=0.99,
            max_visibility_difference=0.1,
            min_top1=0.95,
            min_top10=0.93,
            max_mAP_drop=5e-3,
            max_rank1_drop=0.01,
        ),
    ),
    "float16": PrecisionEntry(
        golden=GoldenTolerance(min_cosine=0.999, max_visibility_difference=0.02),
        limits=GateLimits(
            min_cosine=0.999,
            max_visibility_difference=0.02,
            min_top1=0.98,
            min_top10=0.97,
            max_mAP_drop=2e-3,
            max_rank1_drop=5e-3,
        ),
    ),
    "int8": PrecisionEntry(
        golden=GoldenTolerance(min_cosine=0.95, max_visibility_difference=0.15),
        limits=GateLimits(
            min_cosine=0.9,
            max_visibility_difference=0.2,
            min_top1=0.75,
            min_top10=0.8,
            max_mAP_drop=5e-3,
            max_rank1_drop=0.01,
        ),
    ),
}
"""The limits of a bundle that names none, and of an export that is given none."""
