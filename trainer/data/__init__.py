"""Registry of data sets: ``find_listing("market1501:PATH")`` to evaluate, ``find_training`` to train. Knows no torch.

A name is ``NAME``, ``NAME:PATH`` or ``NAME:PATH@OPTION=VALUE,...`` (`trainer.data.reference`).
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, cast

from trainer.data.listing import DatasetError, Listing, TrainingListing
from trainer.data.reference import Reference, parse


@dataclass(frozen=True)
class DatasetSpec:
    """Where the functions and the card of a data set live, and what they want."""

    module: str
    evaluation: str
    """Function that lists queries and gallery."""
    training: str = ""
    """Function that lists the training part; empty where there is none."""
    card: str = "CARD"
    needs_path: bool = True
    options: tuple[str, ...] = ()
    """Keyword arguments of both functions that a name may set."""


DATASETS: dict[str, DatasetSpec] = {
    "market1501": DatasetSpec("trainer.data.market1501", "list_market1501", "train_market1501"),
    "conreid": DatasetSpec("trainer.data.conreid", "list_conreid", "train_conreid"),
    "folder": DatasetSpec("trainer.data.folders", "list_folders"),
    "generated": DatasetSpec("trainer.data.generated", "list_generated", needs_path=False),
    "generated-occluded": DatasetSpec("trainer.data.generated", "list_generated_occluded", needs_path=False),
}


def find_listing(name: str) -> Listing:
    """The queries and gallery of a data set.

    Raises:
        DatasetError: an unknown name or option, which lists the choices; a missing or broken data set.
    """
    reference, spec = _resolve(name)
    return cast(Listing, _call(spec, spec.evaluation, reference))


def find_training(name: str) -> TrainingListing:
    """The training images of a data set.

    Raises:
        DatasetError: as `find_listing`, and for a data set without a training part.
    """
    reference, spec = _resolve(name)
    if not spec.training:
        choices = [known for known, other in DATASETS.items() if other.training]
        raise DatasetError(f"data set {reference.key!r} has no training part; these have one: {choices}")
    return cast(TrainingListing, _call(spec, spec.training, reference))


def _resolve(name: str) -> tuple[Reference, DatasetSpec]:
    reference = parse(name)
    key = reference.key
    if key not in DATASETS:
        choices = [f"{known}:PATH" if spec.needs_path else known for known, spec in DATASETS.items()]
        raise DatasetError(f"unknown data set {key!r}; choose from {choices}")
    spec = DATASETS[key]
    if spec.needs_path and not reference.path:
        raise DatasetError(f"data set {key!r} needs a path: {key}:PATH")
    if reference.path and not spec.needs_path:
        raise DatasetError(f"data set {key!r} takes no path, got {reference.path!r}")
    unknown = sorted(set(reference.options) - set(spec.options))
    if unknown:
        takes = f"its options are {list(spec.options)}" if spec.options else "it takes none"
        raise DatasetError(f"data set {key!r} has no option {unknown[0]!r}; {takes}")
    return reference, spec


def _call(spec: DatasetSpec, function: str, reference: Reference) -> Any:
    build = getattr(importlib.import_module(spec.module), function)
    return build(*([reference.path] if spec.needs_path else []), **reference.options)
