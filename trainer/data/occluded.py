"""Any data set with its queries occluded by a fixed recipe: ``market1501-occluded`` and its like.

The recipe is `trainer.occlusion.protocol`; the gallery and the training part are the data set's own.
"""

from __future__ import annotations

from dataclasses import replace

from trainer.data.listing import DatasetError, Listing, TrainingListing
from trainer.data.reference import Reference


def list_occluded(path: str, *, base: str, seed: int = 0) -> Listing:
    """The data set ``base``, every query behind a strip of background from a gallery image of somebody else.

    Args:
        seed: decides which side, how much and what of; 0 is the protocol that figures are reported under.
    """
    from trainer.data import find_listing
    from trainer.occlusion.protocol import occluded_queries, occlusion_fact

    if not isinstance(seed, int):
        raise DatasetError(f"seed must be a number from 0, got {seed!r}")
    whole = find_listing(Reference(base, path))
    query = occluded_queries(whole.query, whole.gallery, seed=seed)
    return replace(whole, name=f"{base}-occluded", query=query, facts=(*whole.facts, occlusion_fact(seed)))


def train_occluded(path: str, *, base: str, seed: int = 0) -> TrainingListing:
    """The training part of ``base``, not occluded; ``seed`` changes nothing."""
    from trainer.data import find_training

    return replace(find_training(Reference(base, path)), name=f"{base}-occluded")
