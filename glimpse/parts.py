"""`PartSchema` and `PartFeatures`: the value object that crosses every border of Glimpse.

A model sees a person as a few named *parts*, each with its own embedding and a *visibility* in [0, 1].
Method, bundle, server, gallery and ranking all exchange `PartFeatures`; it is checked once, where it enters,
and refused (never mended) when it is wrong.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

UNIT_NORM_TOLERANCE = 1e-3
MAX_PARTS = 64
MAX_DIM = 16_384
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


@dataclass(frozen=True, slots=True)
class Part:
    """One region of a schema: its name, embedding width and weight in the distance.

    Args:
        name: lower-case word, for example ``"upper"``.
        dim: width of the part's embedding, at least 1.
        weight: alpha of the distance, at least 0.
        always_visible: the visibility of this part is 1 by definition (usually only ``global``).
    """

    name: str
    dim: int
    weight: float = 1.0
    always_visible: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"part name {self.name!r}: expected a lower-case word of at most 32 characters")
        if not 1 <= self.dim <= MAX_DIM:
            raise ValueError(f"part {self.name!r}: dim must be between 1 and {MAX_DIM}, got {self.dim}")
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise ValueError(f"part {self.name!r}: weight must be finite and at least 0, got {self.weight}")


@dataclass(frozen=True)
class PartSchema:
    """The ordered parts of a model and the `prior` of its distance (`glimpse.distance`).

    The first part is the whole person. ``prior`` >= 0 shrinks the similarity of pairs that share little
    evidence; it is tuned on validation identities and stored in the bundle.
    """

    parts: tuple[Part, ...]
    prior: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))
        if not 1 <= len(self.parts) <= MAX_PARTS:
            raise ValueError(f"a schema has 1 to {MAX_PARTS} parts, got {len(self.parts)}")
        if len(set(self.names)) != len(self.parts):
            raise ValueError(f"part names must differ, got {list(self.names)}")
        if not (math.isfinite(self.prior) and self.prior >= 0):
            raise ValueError(f"prior must be finite and at least 0, got {self.prior}")
        if not any(part.weight > 0 for part in self.parts):
            raise ValueError("at least one part must weigh more than 0")

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(part.name for part in self.parts)

    @cached_property
    def dims(self) -> tuple[int, ...]:
        return tuple(part.dim for part in self.parts)

    @cached_property
    def width(self) -> int:
        """Total embedding width, ``sum_p D_p``."""
        return sum(self.dims)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """The columns of each part in ``PartFeatures.vectors``."""
        ends = np.cumsum(self.dims).tolist()
        return tuple(slice(end - dim, end) for end, dim in zip(ends, self.dims, strict=True))

    @cached_property
    def weights(self) -> Float32:
        """alpha, float32 ``(P,)``."""
        return np.array([part.weight for part in self.parts], np.float32)

    @cached_property
    def always_visible(self) -> NDArray[np.bool_]:
        """bool ``(P,)``."""
        return np.array([part.always_visible for part in self.parts])

    def __len__(self) -> int:
        return len(self.parts)

    def same_layout(self, other: PartSchema) -> bool:
        """Whether features of the two schemas can be compared: same names and widths, in order."""
        return self.names == other.names and self.dims == other.dims

    def describe(self) -> str:
        """One line for error messages: ``global:128, head:64``."""
        return ", ".join(f"{part.name}:{part.dim}" for part in self.parts)


@dataclass(frozen=True, eq=False)
class PartFeatures:
    """Part embeddings and visibilities of N images.

    Args:
        vectors: float32 ``(N, sum_p D_p)``; each part's slice has unit norm to 1e-3, or is all zeros when the
            part is hidden.
        visibility: float32 ``(N, P)`` in [0, 1]; exactly 1 for parts the schema calls always visible.
        schema: the parts, in column order.

    Raises:
        ValueError: a shape, dtype, value or norm is wrong; the message names what came and what was expected.
    """

    vectors: Float32
    visibility: Float32
    schema: PartSchema

    def __post_init__(self) -> None:
        vectors, visibility, schema = self.vectors, self.visibility, self.schema
        if vectors.dtype != np.float32 or visibility.dtype != np.float32:
            raise ValueError(f"vectors and visibility must be float32, got {vectors.dtype} and {visibility.dtype}")
        if vectors.ndim != 2 or vectors.shape[1] != schema.width:
            raise ValueError(
                f"vectors must have shape (N, {schema.width}) for parts {schema.describe()}, got {vectors.shape}"
            )
        if visibility.shape != (len(vectors), len(schema)):
            raise ValueError(
                f"visibility must have shape ({len(vectors)}, {len(schema)}), one column a part "
                f"({', '.join(schema.names)}), got {visibility.shape}"
            )
        if not np.isfinite(vectors).all():
            row = int(np.argmax(~np.isfinite(vectors).all(axis=1)))
            raise ValueError(f"vectors must be finite: row {row} holds NaN or infinity")
        if not ((visibility >= 0) & (visibility <= 1)).all():  # also catches NaN
            row = int(np.argmax(~((visibility >= 0) & (visibility <= 1)).all(axis=1)))
            raise ValueError(f"visibility must be within [0, 1]: row {row} is {visibility[row].tolist()}")
        fixed = visibility[:, schema.always_visible]
        if (fixed != 1).any():
            names = [part.name for part in schema.parts if part.always_visible]
            raise ValueError(f"parts {names} are always visible in this schema, got visibility {fixed.min():.3g}")
        for part, columns in zip(schema.parts, schema.slices, strict=True):
            norms = np.sqrt(np.einsum("nd,nd->n", vectors[:, columns], vectors[:, columns]))
            wrong = (np.abs(norms - 1) > UNIT_NORM_TOLERANCE) & (norms != 0)
            seen = visibility[:, schema.names.index(part.name)] > 0
            wrong |= (norms == 0) & seen
            if wrong.any():
                row = int(np.argmax(wrong))
                raise ValueError(
                    f"part {part.name!r} of row {row} has norm {norms[row]:.6g}: expected 1 within "
                    f"{UNIT_NORM_TOLERANCE}, or all zeros with visibility 0"
                )

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, rows: slice | Sequence[int] | NDArray[np.int64] | NDArray[np.bool_]) -> PartFeatures:
        """Rows as a new `PartFeatures`; the rows were checked already and are not checked again."""
        return self.trusted(self.vectors[rows], self.visibility[rows], self.schema)

    def stored(self) -> PartFeatures:
        """The same features as a gallery stores them: vectors rounded to float16, decoded to float32."""
        return self.trusted(self.vectors.astype(np.float16).astype(np.float32), self.visibility, self.schema)

    @classmethod
    def concatenate(cls, pieces: Sequence[PartFeatures]) -> PartFeatures:
        """The rows of several `PartFeatures` of one schema, in order."""
        if not pieces:
            raise ValueError("nothing to concatenate: expected at least one PartFeatures")
        schema = pieces[0].schema
        for piece in pieces[1:]:
            if not schema.same_layout(piece.schema):
                raise ValueError(f"schemas differ: {schema.describe()} and {piece.schema.describe()}")
        vectors = np.concatenate([piece.vectors for piece in pieces])
        return cls.trusted(vectors, np.concatenate([piece.visibility for piece in pieces]), schema)

    @classmethod
    def trusted(cls, vectors: Float32, visibility: Float32, schema: PartSchema) -> PartFeatures:
        """Rows that were checked when they entered (a gallery's own columns): skips the checks."""
        features = object.__new__(cls)
        object.__setattr__(features, "vectors", vectors)
        object.__setattr__(features, "visibility", visibility)
        object.__setattr__(features, "schema", schema)
        return features
