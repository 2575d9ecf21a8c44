"""From names of data sets to what is trained on and what is validated on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.data import find_training
from trainer.data.decoded import decode
from trainer.data.generated import list_validation
from trainer.data.listing import DatasetError, ImageSet, Listing, TrainingListing
from trainer.data.rendered import render
from trainer.data.teachers import taught
from trainer.data.training import Source
from trainer.occlusion.protocol import occluded_queries
from trainer.recipe import Recipe

log = logging.getLogger("glimpse.train")
_HELD_OUT_SEED = 7


def open_sources(
    recipe: Recipe,
    names: Sequence[str],
    *,
    cache: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[tuple[Source, ...], tuple[Listing, ...]]:
    """Training sources, and one validation listing for each: identities that are held out of it.

    Args:
        recipe: ``data`` says how many identities are held out, where annotations are, and who teaches.
        names: ``generated`` or ``NAME:PATH`` of `trainer.data.DATASETS`; each only once.
        progress: ``progress(source, done, all)``.

    Raises:
        DatasetError: an unknown or broken data set, one named twice, or annotations of one that is not trained on.
    """
    keys = [name.partition(":")[0] for name in names]
    if not names or len(set(keys)) != len(keys):
        raise DatasetError(f"train on one or more different data sets, got {list(names)}")
    for field in ("annotations", "copies"):
        strange = sorted(set(getattr(recipe.data, field)) - set(keys))
        if strange:
            raise DatasetError(f"data.{field} names {strange}, which are not trained on: {keys}")
    sources, listings = [], []
    for key, name in zip(keys, names, strict=True):

        def report(done: int, total: int, key: str = key) -> None:
            if progress:
                progress(key, done, total)

        if key == "generated":
            source, pixels = render(recipe.data, recipe.preprocessing, cache=cache, progress=report)
            validation = list_validation(recipe.data)
        else:
            training, validation = hold_out(find_training(name), recipe.data.validation_identities)
            annotations = recipe.data.annotations.get(key)
            source, pixels = decode(
                key,
                training,
                recipe.preprocessing,
                None if annotations is None else Path(annotations),
                copies=recipe.data.copies.get(key, 1),
                cache=cache,
                progress=report,
            )
        if recipe.data.teacher is not None:
            source = taught(source, recipe.data.teacher, pixels, cache=cache, progress=report)
        sources.append(source)
        listings.append(validation)
    return tuple(sources), tuple(listings)


def hold_out(training: TrainingListing, identities: int) -> tuple[TrainingListing, Listing]:
    """A training listing without some of its identities, and those as queries and gallery.

    At most a tenth of the identities with images by two cameras is held out, chosen by a fixed seed. Each has one
    query a camera; every second query is partly covered (`trainer.occlusion.protocol`), so that validation rewards
    both whole and hidden people. All their other images are the gallery.

    Raises:
        DatasetError: fewer than 20 identities have images by two cameras.
    """
    images = training.images
    names = np.unique(images.people)
    several = [who for who in names if len(np.unique(images.cameras[images.people == who])) > 1]
    if len(several) < 20:
        raise DatasetError(
            f"{training.name}: {len(several)} identities have images by two cameras; holding some out for validation "
            f"needs at least 20"
        )
    random = np.random.default_rng(_HELD_OUT_SEED)
    held = np.sort(random.choice(several, min(identities, max(2, len(several) // 10)), replace=False))
    inside = np.isin(images.people, held)
    query = _first_by_camera(images, held)
    gallery = np.setdiff1d(np.flatnonzero(inside), query)
    queries = images.take(query)
    covered = occluded_queries(queries, images.take(gallery), seed=_HELD_OUT_SEED)
    facts = (
        f"validation: {len(held)} identities held out of {training.name}'s training part, {len(query)} queries (every "
        f"second one covered by a strip), {len(gallery)} gallery images",
    )
    kept = replace(training, images=images.take(np.flatnonzero(~inside)), facts=(*training.facts, *facts))
    return kept, Listing(f"{training.name} held out", _alternating(queries, covered), images.take(gallery), facts)


def _first_by_camera(images: ImageSet, people: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first image of each person by each camera, where another camera has one left for the gallery."""
    rows = []
    for who in people:
        mine = np.flatnonzero(images.people == who)
        _, first, counts = np.unique(images.cameras[mine], return_index=True, return_counts=True)
        # A camera with a single image keeps it in the gallery unless others fill the gallery.
        taken = [mine[i] for i, count in zip(first, counts, strict=True) if count > 1]
        rows.extend(taken or [mine[first[0]]])
    return np.array(sorted(rows), np.int64)


def _alternating(whole: ImageSet, covered: ImageSet) -> ImageSet:
    """Every second image from ``covered``."""
    hidden = np.zeros(len(whole), np.float32)
    if covered.hidden is not None:
        hidden[1::2] = covered.hidden[1::2]
    return replace(whole, load=lambda i: covered.load(i) if i % 2 else whole.load(i), hidden=hidden)
