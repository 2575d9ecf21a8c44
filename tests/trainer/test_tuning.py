"""One schema for several validation sets."""

from __future__ import annotations

import numpy as np

from glimpse.parts import Part, PartFeatures, PartSchema
from trainer.evaluation import LabelledFeatures
from trainer.tuning import Pair, tune, tune_together, under

SCHEMA = PartSchema((Part("a", 4), Part("b", 4)))
EYE = np.eye(4, dtype=np.float32)


def misled_by(part: int, queries: int) -> Pair:
    """Queries of person 1 whose one part agrees with an image of person 2, the other with one of person 1."""

    def features(rows: list[tuple[int, int]]) -> PartFeatures:
        vectors = np.stack([np.concatenate([EYE[a], EYE[b]]) for a, b in rows])
        return PartFeatures(vectors, np.ones((len(rows), 2), np.float32), SCHEMA)

    def labelled(rows: list[tuple[int, int]], people: list[int], camera: int) -> LabelledFeatures:
        ids = tuple(str(i) for i in range(len(rows)))
        return LabelledFeatures(features(rows), ids, np.array(people), np.full(len(rows), camera))

    right, wrong = ((0, 1), (1, 0)) if part == 1 else ((1, 0), (0, 1))
    return labelled([(0, 0)] * queries, [1] * queries, 0), labelled([right, wrong], [1, 2], 1)


def weights(schema: PartSchema) -> tuple[float, ...]:
    return tuple(part.weight for part in schema.parts)


def test_a_part_that_misleads_weighs_less() -> None:
    a, b = weights(tune(*misled_by(1, 4)))
    assert a > b
    a, b = weights(tune(*misled_by(0, 4)))
    assert a < b


def test_every_set_counts_alike_however_many_queries_it_has() -> None:
    # The larger set must not outvote two smaller ones.
    a, b = weights(tune_together([misled_by(0, 40), misled_by(1, 2), misled_by(1, 2)]))
    assert a > b


def test_one_set_is_tuned_as_it_is_among_itself() -> None:
    pair = misled_by(1, 3)
    assert tune(*pair) == tune_together([pair]) == tune_together([pair, pair])
    assert under(tune(*pair), pair[0]).features.schema == tune(*pair)
