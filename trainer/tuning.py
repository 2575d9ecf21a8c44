"""Chooses the schema's prior and part weights on validation identities. Knows no torch.

A few coarse values and one pass of coordinate ascent: the validation set is small, and a finer search would fit its
noise. Test identities never come here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from glimpse.parts import PartFeatures, PartSchema
from trainer.evaluation import LabelledFeatures, rank

Pair = tuple[LabelledFeatures, LabelledFeatures]
"""Queries and gallery."""

PRIORS = (0.0, 0.1, 0.25, 0.5, 1.0)
WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0)
LEAST_GAIN = 0.003
"""In mAP; a smaller one is as likely noise."""


def tune(query: LabelledFeatures, gallery: LabelledFeatures) -> PartSchema:
    """The schema of the features with the prior and part weights that give the best mAP, starting from its own.

    A change has to gain `LEAST_GAIN` to be taken.
    """
    return tune_together([(query, gallery)])


def tune_together(pairs: Sequence[Pair]) -> PartSchema:
    """One schema for several validation sets: the best mean of their mAPs, so that none is given up for another."""
    schema = pairs[0][1].features.schema
    best = _score(schema, pairs)
    for _ in range(2):
        for p, part in enumerate(schema.parts):
            # The weight of a single part cancels out but for the prior, which is tuned below.
            for weight in WEIGHTS if len(schema.parts) > 1 else ():
                parts = (*schema.parts[:p], replace(part, weight=weight), *schema.parts[p + 1 :])
                schema, best = _better(PartSchema(parts, schema.prior), schema, best, pairs)
        for prior in PRIORS:
            schema, best = _better(PartSchema(schema.parts, prior), schema, best, pairs)
    return schema


def under(schema: PartSchema, labelled: LabelledFeatures) -> LabelledFeatures:
    """The same features read by another schema of the same layout."""
    features = labelled.features
    return replace(labelled, features=PartFeatures.trusted(features.vectors, features.visibility, schema))


def _better(candidate: PartSchema, current: PartSchema, best: float, pairs: Sequence[Pair]) -> tuple[PartSchema, float]:
    if candidate == current:
        return current, best
    score = _score(candidate, pairs)
    return (candidate, score) if score > best + LEAST_GAIN else (current, best)


def _score(schema: PartSchema, pairs: Sequence[Pair]) -> float:
    return sum(rank(under(schema, query), under(schema, gallery)).mAP for query, gallery in pairs) / len(pairs)
