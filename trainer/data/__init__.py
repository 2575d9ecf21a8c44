"""Registry of data sets. ``find_listing("market1501:/data/market")`` gives queries and gallery; none needs torch."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import cast

from trainer.data.listing import DatasetError, Listing


@dataclass(frozen=True)
class DatasetSpec:
    """Where the function that lists a data set lives, and whether it wants a path."""

    target: str
    summary: str
    needs_path: bool = True


DATASETS: dict[str, DatasetSpec] = {
    "market1501": DatasetSpec("trainer.data.market1501:list_market1501", "Market-1501's test part"),
    "folder": DatasetSpec(
        "trainer.data.folders:list_folders", "a folder a person, with or without query/ and gallery/"
    ),
    "generated": DatasetSpec("trainer.data.generated:list_generated", "generated people, whole queries", False),
    "generated-occluded": DatasetSpec(
        "trainer.data.generated:list_generated_occluded", "generated people, queries at least half hidden", False
    ),
}


def find_listing(name: str) -> Listing:
    """The queries and gallery of ``NAME`` or ``NAME:PATH``; DatasetError lists the choices."""
    key, _, path = name.partition(":")
    if key not in DATASETS:
        choices = [f"{known}:PATH" if spec.needs_path else known for known, spec in DATASETS.items()]
        raise DatasetError(f"unknown data set {key!r}; choose from {choices}")
    spec = DATASETS[key]
    if spec.needs_path and not path:
        raise DatasetError(f"data set {key!r} needs a path: {key}:PATH")
    if path and not spec.needs_path:
        raise DatasetError(f"data set {key!r} takes no path, got {path!r}")
    module, _, function = spec.target.partition(":")
    build = getattr(importlib.import_module(module), function)
    return cast(Listing, build(path) if spec.needs_path else build())
