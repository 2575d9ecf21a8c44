"""Golden samples: does this runtime compute what the bundle's maker computed?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from glimpse.bundle import GoldenTolerance
from glimpse.parts import PartFeatures


class GoldenMismatch(RuntimeError):
    """A runtime's features are further from the golden ones than the bundle allows."""


@dataclass(frozen=True, slots=True)
class GoldenReport:
    """How close features came to the golden ones."""

    min_cosine: Mapping[str, float]
    """Part -> smallest cosine over the samples in which the part is visible; absent where it never is."""
    max_visibility_difference: float
    """Largest absolute difference of any visibility."""
    samples: int
    tolerance: GoldenTolerance
    batch_mate_difference: float = 0.0
    """How far any output of a sample moved with the samples beside it; measured for int8 only."""
    max_batch_mate_difference: float = 1e-3

    @property
    def problems(self) -> tuple[str, ...]:
        """One sentence per limit that was passed; empty when all hold."""
        limits = self.tolerance
        found = [
            f"part {name!r} has cosine {cosine:.6f} to its golden sample, at least {limits.min_cosine} is needed"
            for name, cosine in self.min_cosine.items()
            if not cosine >= limits.min_cosine
        ]
        if not self.max_visibility_difference <= limits.max_visibility_difference:
            found.append(
                f"a visibility differs by {self.max_visibility_difference:.4f} from its golden sample, "
                f"at most {limits.max_visibility_difference} is allowed"
            )
        if not self.batch_mate_difference <= self.max_batch_mate_difference:
            found.append(
                f"features depend on their batch mates: they move by {self.batch_mate_difference:.2g}, at most "
                f"{self.max_batch_mate_difference:g} is allowed (int8 sums overflow in a runtime that is not made for "
                "this processor; choose another provider or precision)"
            )
        return tuple(found)

    @property
    def passed(self) -> bool:
        return not self.problems


def compare(golden: PartFeatures, features: PartFeatures, tolerance: GoldenTolerance) -> GoldenReport:
    """Compares the features of the golden images, part by part.

    Cosines are taken per part and over the samples that see it: one cosine over the packed vector would hide a
    broken small part, and none would see a wrong visibility.

    Raises:
        ValueError: other parts or another number of rows.
    """
    schema = golden.schema
    if not schema.same_layout(features.schema) or len(golden) != len(features):
        raise ValueError(
            f"golden features have {len(golden)} rows of {schema.describe()}, "
            f"got {len(features)} of {features.schema.describe()}"
        )
    cosines = {}
    for p, (name, columns) in enumerate(zip(schema.names, schema.slices, strict=True)):
        seen = golden.visibility[:, p] > 0
        if seen.any():
            a = golden.vectors[seen, columns].astype(np.float64)
            b = features.vectors[seen, columns].astype(np.float64)
            norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
            # A part that was seen but came out as zeros has no cosine: count it as 0.
            products = np.einsum("nd,nd->n", a, b)
            cosines[name] = float(np.divide(products, norms, out=np.zeros_like(norms), where=norms > 0).min())
    difference = float(np.abs(golden.visibility - features.visibility).max(initial=0.0))
    return GoldenReport(cosines, difference, len(golden), tolerance)
