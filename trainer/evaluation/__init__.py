"""Evaluation through the distance and metrics that the server uses. Knows no torch.

`features` takes images to labelled features and keeps them in a file, `ranking` turns them into figures, `report` puts
a whole evaluation together.
"""

from glimpse.scan import DistanceScan
from trainer.evaluation.features import (
    Extraction,
    LabelledFeatures,
    extract,
    extract_listing,
    fully_visible,
    load_features,
    save_features,
)
from trainer.evaluation.ranking import rank
from trainer.evaluation.report import Report, evaluate

__all__ = [
    "DistanceScan",
    "Extraction",
    "LabelledFeatures",
    "Report",
    "evaluate",
    "extract",
    "extract_listing",
    "fully_visible",
    "load_features",
    "rank",
    "save_features",
]
