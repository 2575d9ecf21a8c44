"""Pose and parsing: where the joints and regions of a person are, from files or from a user's ONNX model. No torch.

    store = AnnotationStore(Path("annotations/market1501"))
    regions, person = store.regions(image_id), store.keypoints(image_id)

`keypoints` and `files` read what pose estimators write, `regions` what parsers write; `heatmaps`, `visibility` and
`grids` turn both into what the methods train on; `annotation` runs a model over a data set and `store` reads it back.
"""

from trainer.pose.errors import AnnotationError
from trainer.pose.keypoints import KeyPoints, target
from trainer.pose.store import AnnotationStore, Coverage

__all__ = ["AnnotationError", "AnnotationStore", "Coverage", "KeyPoints", "target"]
