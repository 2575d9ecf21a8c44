"""`SearchProblem`: a gallery in a folder, memory-mapped, and the queries that are asked of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glimpse.parts import Float32, Part, PartFeatures, PartSchema

VISIBLE = 0.5
"""From this visibility on a part counts as visible."""
ROWS_AT_ONCE = 8_192

Float16 = NDArray[np.float16]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SearchProblem:
    """What every contender is given. Items are numbered 0 to N - 1."""

    name: str
    """Of a file name's letters; unique for what it holds."""
    folder: Path
    schema: PartSchema
    vectors: Float16
    """``(N, sum_p D_p)``, a read-only map of the file."""
    visibility: Float32
    """``(N, P)``."""
    people: Int64
    """``(N,)``."""
    queries: PartFeatures
    """Q rows, the numbers of visible parts taking turns, so that a stretch of them is like any other."""

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def visible_parts(self) -> Int64:
        """``(Q,)``: how many parts of each query are visible."""
        return np.count_nonzero(self.queries.visibility >= VISIBLE, axis=1)

    def chunks(self, rows_at_once: int = ROWS_AT_ONCE) -> Iterator[tuple[slice, PartFeatures]]:
        """The gallery as stored, decoded to float32, a stretch of rows at a time."""
        for start in range(0, len(self), rows_at_once):
            rows = slice(start, min(start + rows_at_once, len(self)))
            yield rows, PartFeatures.trusted(self.vectors[rows].astype(np.float32), self.visibility[rows], self.schema)

    def features(self, rows: Int64) -> PartFeatures:
        """Some rows, decoded to float32."""
        return PartFeatures.trusted(self.vectors[rows].astype(np.float32), self.visibility[rows], self.schema)


def weighted(vectors: Float32, weight: Float32, schema: PartSchema) -> Float32:
    """Each part's columns times the part's weight ``(N, P)``: ``concat(weight_p x_p)``, float32 ``(N, sum_p D_p)``."""
    return vectors * np.repeat(weight, schema.dims, axis=1)


def query_side(queries: PartFeatures) -> tuple[Float32, Float32]:
    """``concat(alpha_p vq_p q_p)`` ``(Q, sum_p D_p)`` and ``alpha_p vq_p`` ``(Q, P)``."""
    weight = queries.visibility * queries.schema.weights
    return weighted(queries.vectors, weight, queries.schema), weight


def save_problem(
    folder: Path,
    schema: PartSchema,
    visibility: Float32,
    people: Int64,
    queries: PartFeatures,
    about: dict[str, object],
) -> None:
    """Writes all but the vectors, which are there already as ``vectors.npy``."""
    np.save(folder / "visibility.npy", visibility)
    np.save(folder / "people.npy", people)
    np.savez(folder / "queries.npz", vectors=queries.vectors, visibility=queries.visibility)
    parts = [[part.name, part.dim, part.weight, part.always_visible] for part in schema.parts]
    text = json.dumps({"parts": parts, "prior": schema.prior, "about": about}, indent=2)
    (folder / "problem.json").write_text(text + "\n")


def open_problem(folder: Path) -> SearchProblem:
    """What `save_problem` wrote; the folder's name is the problem's."""
    told = json.loads((folder / "problem.json").read_text())
    schema = PartSchema(tuple(Part(*part) for part in told["parts"]), told["prior"])
    with np.load(folder / "queries.npz") as arrays:
        queries = PartFeatures(arrays["vectors"], arrays["visibility"], schema)
    return SearchProblem(
        folder.name,
        folder,
        schema,
        np.load(folder / "vectors.npy", mmap_mode="r"),
        np.load(folder / "visibility.npy"),
        np.load(folder / "people.npy"),
        queries,
    )


def takes_turns(groups: Int64) -> Int64:
    """An order of positions in which the groups take turns: a, b, c, a, b, c, ..."""
    turn = np.zeros(len(groups), np.int64)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        turn[members] = np.arange(len(members))
    return np.lexsort((groups, turn))
