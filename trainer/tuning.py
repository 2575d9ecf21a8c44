"""Chooses the schema's prior and part weights on validation identities. Knows no torch.

A few coarse values and one pass of coordinate ascent: the validation set is small, and a finer search would fit its
noise. Test identities never come here.
"""

from __future__ import annotations

from dataclasses import replace

from glimpse.parts import PartFeatures, PartSchema
from trainer.evaluation import LabelledFeatures, rank

PRIORS = (0.0, 0.1, 0.25, 0.5, 1.0)
WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0)
LEAST_GAIN = 0.003
"""In mAP; a smaller one is as likely noise."""


def tune(query: LabelledFeatures, gallery: LabelledFeatures) -> PartSchema:
    """The schema of the features with the prior and part weights that give the best mAP, starting from its own.

    A change has to gain `LEAST_GAIN` to be taken.
    """
    schema = gallery.features.schema
    best = _score(schema, query, gallery)
    for _ in range(2):
        for p, part in enumerate(schema.parts):
            for weight in WEIGHTS:
                parts = (*schema.parts[:p], replace(part, weight=weight), *schema.parts[p + 1 :])
                schema, best = _better(PartSchema(parts, schema.prior), schema, best, query, gallery)
        for prior in PRIORS:
            schema, best = _better(PartSchema(schema.parts, prior), schema, best, query, gallery)
    return schema


def under(schema: PartSchema, labelled: LabelledFeatures) -> LabelledFeatures:
    """The same features read by another schema of the same layout."""
    features = labelled.features
    return replace(labelled, features=PartFeatures.trusted(features.vectors, features.visibility, schema))


def _better(
    candidate: PartSchema, current: PartSchema, best: float, query: LabelledFeatures, gallery: LabelledFeatures
) -> tuple[PartSchema, float]:
    score = _score(candidate, query, gallery)
    return (candidate, score) if score > best + LEAST_GAIN else (current, best)


def _score(schema: PartSchema, query: LabelledFeatures, gallery: LabelledFeatures) -> float:
    return rank(under(schema, query), under(schema, gallery)).mAP
