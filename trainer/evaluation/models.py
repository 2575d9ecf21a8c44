"""What a reader must know of a model beside its figures, from a bundle's manifest or from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from glimpse.bundle import Bundle
from glimpse.parts import PartSchema
from glimpse.preprocessing import Preprocessing

if TYPE_CHECKING:
    from trainer.checkpoint import Checkpoint

CAMERAS = "no input of the model"
IMAGES_ONLY = "none: images only"


def bundle_facts(bundle: Bundle) -> Mapping[str, str]:
    """Of an opened bundle."""
    manifest, origin = bundle.manifest, bundle.manifest.provenance
    return {
        "model": str(bundle.identity),
        "method": manifest.method,
        "training data": origin.training_data,
        "training": origin.command,
        "seed": str(origin.seed),
        "epochs and steps": origin.notes or "not recorded",
        "backbone": origin.backbone,
        "input": _input(bundle.preprocessing),
        "parts": _parts(bundle.schema),
        "extra inputs": IMAGES_ONLY,
        "camera ids": CAMERAS,
    }


def checkpoint_facts(checkpoint: Checkpoint, *, given: str = "") -> Mapping[str, str]:
    """Of a loaded checkpoint; ``given`` names what the model is given beside images."""
    recipe, origin = checkpoint.recipe, checkpoint.provenance
    backbone = recipe.backbone.name + (", pretrained" if recipe.backbone.pretrained else ", from random weights")
    epochs = f"{checkpoint.step:,} steps of {origin.steps:,} made, {origin.epochs:.3g} epochs in all"
    return {
        "model": f"{recipe.name} (checkpoint, step {checkpoint.step:,})",
        "method": recipe.method,
        "training data": ". ".join(source.describe() for source in origin.sources) or "not recorded",
        "training": checkpoint.command or "not recorded",
        "seed": str(checkpoint.seed),
        "epochs and steps": f"{epochs}; {origin.hours:.2g} hours on {origin.devices} device(s)",
        "backbone": "; ".join((backbone, *origin.facts)),
        "input": _input(recipe.preprocessing),
        "parts": _parts(checkpoint.schema),
        "extra inputs": given or IMAGES_ONLY,
        "camera ids": CAMERAS,
    }


def _input(preprocessing: Preprocessing) -> str:
    return f"{preprocessing.height} x {preprocessing.width} pixels, {preprocessing.interpolation}"


def _parts(schema: PartSchema) -> str:
    return f"{schema.describe()}; prior {schema.prior:g}"
