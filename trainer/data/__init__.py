"""Registry of data sets: ``find_listing("market1501:PATH")`` to evaluate, ``find_training`` to train. Knows no torch.

A name is ``NAME``, ``NAME:PATH`` or ``NAME:PATH@OPTION=VALUE,...`` (`trainer.data.reference`). Options that are the
data set's own choose a variant of its protocol; ``shots``, ``draw`` and ``pool`` make multi-shot queries of any
(`trainer.data.shots`).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from trainer.data.card import Card
from trainer.data.halves import TRIALS as SPLITS
from trainer.data.listing import DatasetError, Listing, TrainingListing
from trainer.data.reference import ALL, Reference, parse
from trainer.data.shots import TRIALS as DRAWS
from trainer.data.shots import multi_shot

SHOTS = ("shots", "draw", "pool")
TRIALS: Mapping[str, int] = {"split": SPLITS, "draw": DRAWS}
"""Options that number the trials of a protocol, and how many there are."""


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
    fixed: Mapping[str, str] = field(default_factory=dict)
    """Keyword arguments of both functions that this entry sets."""


def _occluded(base: str) -> DatasetSpec:
    fixed = {"base": base}
    return DatasetSpec("trainer.data.occluded", "list_occluded", "train_occluded", options=("seed",), fixed=fixed)


_PARTIAL, _ILIDS, _CUHK = "trainer.data.partial_reid", "trainer.data.partial_ilids", "trainer.data.cuhk03"
_DRAWN = "trainer.data.drawn"
_SPLIT = ("split",)

DATASETS: dict[str, DatasetSpec] = {
    "market1501": DatasetSpec("trainer.data.market1501", "list_market1501", "train_market1501"),
    "market1501-occluded": _occluded("market1501"),
    "dukemtmc": DatasetSpec("trainer.data.dukemtmc", "list_dukemtmc", "train_dukemtmc"),
    "dukemtmc-occluded": _occluded("dukemtmc"),
    "occluded-duke": DatasetSpec("trainer.data.occluded_duke", "list_occluded_duke", "train_occluded_duke"),
    "p-duke": DatasetSpec("trainer.data.p_duke", "list_p_duke", "train_p_duke"),
    "occluded-reid": DatasetSpec(
        "trainer.data.occluded_reid", "list_occluded_reid", "train_occluded_reid", options=_SPLIT
    ),
    "partial-reid": DatasetSpec(
        _PARTIAL, "list_partial_reid", "train_partial_reid", "CROPPED", options=_SPLIT, fixed={"query": "partial"}
    ),
    "partial-reid-occluded": DatasetSpec(
        _PARTIAL, "list_partial_reid", "train_partial_reid", "UNCROPPED", options=_SPLIT, fixed={"query": "occluded"}
    ),
    "partial-ilids": DatasetSpec(_ILIDS, "list_partial_ilids", card="CROP", fixed={"query": "crop"}),
    "partial-ilids-nocrop": DatasetSpec(_ILIDS, "list_partial_ilids", card="NOCROP", fixed={"query": "nocrop"}),
    "p-ethz": DatasetSpec("trainer.data.p_ethz", "list_p_ethz", "train_p_ethz", options=_SPLIT),
    "msmt17": DatasetSpec("trainer.data.msmt17", "list_msmt17", "train_msmt17"),
    "msmt17-occluded": _occluded("msmt17"),
    "cuhk03-labeled": DatasetSpec(_CUHK, "list_cuhk03", "train_cuhk03", "LABELED", fixed={"kind": "labeled"}),
    "cuhk03-labeled-occluded": _occluded("cuhk03-labeled"),
    "cuhk03-detected": DatasetSpec(_CUHK, "list_cuhk03", "train_cuhk03", "DETECTED", fixed={"kind": "detected"}),
    "cuhk03-detected-occluded": _occluded("cuhk03-detected"),
    "conreid": DatasetSpec("trainer.data.conreid", "list_conreid", "train_conreid"),
    "conreid-occluded": _occluded("conreid"),
    "folder": DatasetSpec("trainer.data.folders", "list_folders", "train_folders"),
    "folder-occluded": _occluded("folder"),
    "csv": DatasetSpec("trainer.data.table", "list_table", "train_table"),
    "csv-occluded": _occluded("csv"),
    "generated": DatasetSpec(_DRAWN, "list_generated", "train_generated", "WHOLE", needs_path=False),
    "generated-occluded": DatasetSpec(
        _DRAWN, "list_generated_occluded", "train_generated", "OCCLUDED", needs_path=False
    ),
    "generated-calibration": DatasetSpec(_DRAWN, "list_generated_calibration", card="CALIBRATION", needs_path=False),
}


def find_listing(name: str | Reference) -> Listing:
    """The queries and gallery of a data set.

    Raises:
        DatasetError: an unknown name or option, which lists the choices; a missing or broken data set.
    """
    reference, spec = _resolve(name)
    listing = cast(Listing, _call(spec, spec.evaluation, reference))
    chosen = {option: value for option, value in reference.options.items() if option in SHOTS}
    if not chosen:
        return listing
    if "shots" not in chosen:
        raise DatasetError(f"{reference}: {next(iter(chosen))} is of multi-shot queries, which need shots=N")
    return multi_shot(listing, **cast(dict[str, Any], chosen))


def find_trials(name: str) -> tuple[Listing, ...]:
    """The listings whose mean a protocol reports: of ``split=all`` the ten half splits, of ``draw=all`` ten draws.

    With both, trial i is split i under draw i. A name without them is its own single trial.

    Raises:
        DatasetError: as `find_listing`.
    """
    reference = parse(name)
    all_of = [option for option, value in reference.options.items() if value == ALL and option in TRIALS]
    count = min((TRIALS[option] for option in all_of), default=1)
    return tuple(
        find_listing(replace(reference, options={**reference.options, **dict.fromkeys(all_of, trial)}))
        for trial in range(count)
    )


def find_training(name: str | Reference) -> TrainingListing:
    """The training images of a data set.

    Raises:
        DatasetError: as `find_listing`, and for a data set without a training part.
    """
    reference, spec = _resolve(name)
    if not spec.training:
        choices = [known for known, other in DATASETS.items() if other.training]
        raise DatasetError(f"data set {reference.key!r} has no training part; these have one: {choices}")
    return cast(TrainingListing, _call(spec, spec.training, reference))


def find_card(key: str) -> Card:
    """What is known of a data set without reading it.

    Raises:
        DatasetError: no such data set.
    """
    spec = _spec(key)
    base = spec.fixed.get("base")
    if base is None:
        return cast(Card, getattr(importlib.import_module(spec.module), spec.card))
    card, fact = find_card(base), importlib.import_module("trainer.occlusion.protocol").occlusion_fact()
    return replace(card, title=f"{card.title}, occluded queries", protocol=f"{fact}; {card.protocol}")


def _spec(key: str) -> DatasetSpec:
    if key not in DATASETS:
        choices = [f"{known}:PATH" if spec.needs_path else known for known, spec in DATASETS.items()]
        raise DatasetError(f"unknown data set {key!r}; choose from {choices}")
    return DATASETS[key]


def _resolve(name: str | Reference) -> tuple[Reference, DatasetSpec]:
    reference = parse(name) if isinstance(name, str) else name
    key, spec = reference.key, _spec(reference.key)
    if spec.needs_path and not reference.path:
        raise DatasetError(f"data set {key!r} needs a path: {key}:PATH")
    if reference.path and not spec.needs_path:
        raise DatasetError(f"data set {key!r} takes no path, got {reference.path!r}")
    for option, value in reference.options.items():
        if option not in spec.options + SHOTS:
            raise DatasetError(f"data set {key!r} has no option {option!r}; it has {[*spec.options, *SHOTS]}")
        if value == ALL and option in TRIALS:
            raise DatasetError(
                f"{reference}: {option}={ALL} stands for {TRIALS[option]} trials, one at a time can be listed, such as "
                f"{option}=0"
            )
    return reference, spec


def _call(spec: DatasetSpec, function: str, reference: Reference) -> Any:
    build = getattr(importlib.import_module(spec.module), function)
    options = {option: value for option, value in reference.options.items() if option in spec.options}
    return build(*([reference.path] if spec.needs_path else []), **spec.fixed, **options)
