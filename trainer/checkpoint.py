"""The checkpoint: weights and everything needed to use, export or make them again.

One file of `torch.save` that holds tensors and plain JSON-like values only, so it loads with ``weights_only=True``.
"""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from glimpse.bundle import SchemaEntry
from glimpse.parts import PartSchema
from trainer.recipe import Recipe, parse_recipe

FORMAT = 1
_PACKAGES = ("torch", "timm", "lightning", "numpy", "opencv-python-headless")


class CheckpointError(ValueError):
    """A file that is not a checkpoint of this trainer."""


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint."""

    weights: dict[str, torch.Tensor]
    recipe: Recipe
    schema: PartSchema
    """With the weights and prior tuned on validation identities."""
    identities: int
    seed: int
    step: int
    command: str
    metrics: dict[str, float]
    versions: dict[str, str]

    def build(self) -> Any:
        """The method with these weights, in evaluation mode; its ``schema`` is this one."""
        from trainer.methods import find_method

        # The weights are here: nothing has to be fetched.
        backbone = self.recipe.backbone.model_copy(update={"pretrained": False})
        recipe = self.recipe.model_copy(update={"backbone": backbone})
        method = find_method(recipe.method).load().from_recipe(recipe, self.identities)
        method.load_state_dict(self.weights)
        method.schema = self.schema
        return method.eval()


def save_checkpoint(
    path: Path,
    method: nn.Module,
    schema: PartSchema,
    recipe: Recipe,
    *,
    identities: int,
    seed: int,
    step: int,
    command: str,
    metrics: dict[str, float],
) -> None:
    """Writes the file whole or not at all."""
    values = {
        "format": FORMAT,
        "weights": {name: tensor.detach().cpu().clone() for name, tensor in method.state_dict().items()},
        "recipe": recipe.model_dump(mode="json"),
        "schema": SchemaEntry.of(schema).model_dump(mode="json"),
        "identities": identities,
        "seed": seed,
        "step": step,
        "command": command,
        "metrics": metrics,
        "versions": versions(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    torch.save(values, partial)
    partial.replace(path)


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint; CheckpointError says why it cannot be one."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever pickle, zip or its own reader met; its advice is unsafe
        raise CheckpointError(
            f"{path.name} is not a checkpoint of `glimpse train`: it does not hold plain tensors and values"
        ) from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise CheckpointError(f"{path.name} is not a checkpoint of `glimpse train`, format {FORMAT}")
    return Checkpoint(
        weights=values["weights"],
        recipe=parse_recipe(values["recipe"]),
        schema=SchemaEntry.model_validate(values["schema"]).to_schema(),
        identities=values["identities"],
        seed=values["seed"],
        step=values["step"],
        command=values["command"],
        metrics=values["metrics"],
        versions=values["versions"],
    )


def versions() -> dict[str, str]:
    """What decides a result besides recipe and seed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
