"""Losses as pure functions, a file a family; import them from here.

Shapes: N images, P parts, C identities, K body regions, D the summed width of the parts.
"""

from trainer.losses.centre import centre_loss, moved_centres
from trainer.losses.distance import pairwise_distance, pairwise_similarity
from trainer.losses.distillation import embedding_distillation, relation_distillation
from trainer.losses.identity import identity_loss
from trainer.losses.masks import mask_cross_entropy, mask_mse, recovery_loss, region_shares
from trainer.losses.memory import memory_nce
from trainer.losses.parts import part_map_loss, visibility_loss
from trainer.losses.pixels import cell_labels, pixel_loss
from trainer.losses.triplet import batch_hard_triplet, euclidean, soft_batch_hard_triplet

__all__ = [
    "batch_hard_triplet",
    "cell_labels",
    "centre_loss",
    "embedding_distillation",
    "euclidean",
    "identity_loss",
    "mask_cross_entropy",
    "mask_mse",
    "memory_nce",
    "moved_centres",
    "pairwise_distance",
    "pairwise_similarity",
    "part_map_loss",
    "pixel_loss",
    "recovery_loss",
    "region_shares",
    "relation_distillation",
    "soft_batch_hard_triplet",
    "visibility_loss",
]
