"""The checkpoint: weights and everything needed to use, export or make them again.

One file of `torch.save` that holds tensors and plain JSON-like values only, so it loads with ``weights_only=True``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from glimpse.bundle import SchemaEntry
from glimpse.parts import PartSchema
from trainer.data.training import Population
from trainer.provenance import Provenance, versions
from trainer.recipe import Recipe, parse_recipe

FORMAT = 2


class CheckpointError(ValueError):
    """A file that is not a checkpoint of this trainer."""


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint."""

    weights: dict[str, torch.Tensor]
    recipe: Recipe
    schema: PartSchema
    """With the weights and prior tuned on validation identities."""
    population: Population
    """Of the training set: how many identities and cameras the method was built for."""
    provenance: Provenance
    seed: int
    step: int
    """Optimiser steps behind these weights."""
    command: str
    metrics: dict[str, float]
    versions: dict[str, str]

    def build(self) -> Any:
        """The method with these weights, in evaluation mode; its ``schema`` is this one."""
        from trainer.methods import find_method

        # The weights are here: nothing has to be fetched.
        backbone = self.recipe.backbone.model_copy(update={"pretrained": False})
        recipe = self.recipe.model_copy(update={"backbone": backbone})
        method = find_method(recipe.method).load().from_recipe(recipe, self.population)
        load_weights(method, self.weights)
        method.schema = self.schema
        return method.eval()


def save_checkpoint(
    path: Path,
    method: nn.Module,
    schema: PartSchema,
    recipe: Recipe,
    *,
    population: Population,
    provenance: Provenance,
    seed: int,
    step: int,
    command: str,
    metrics: dict[str, float],
) -> None:
    """Writes the file whole or not at all."""
    values = {
        "format": FORMAT,
        "weights": on_cpu(method.state_dict()),
        "recipe": recipe.model_dump(mode="json"),
        "schema": SchemaEntry.of(schema).model_dump(mode="json"),
        "population": {"identities": population.identities, "cameras": population.cameras},
        "provenance": provenance.model_dump(mode="json"),
        "seed": seed,
        "step": step,
        "command": command,
        "metrics": metrics,
        "versions": versions(),
    }
    write_values(path, values)


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint; CheckpointError says why it cannot be one."""
    values = read_values(path, "a checkpoint", FORMAT)
    return Checkpoint(
        weights=values["weights"],
        recipe=parse_recipe(values["recipe"]),
        schema=SchemaEntry.model_validate(values["schema"]).to_schema(),
        population=Population(**values["population"]),
        provenance=Provenance.model_validate(values["provenance"]),
        seed=values["seed"],
        step=values["step"],
        command=values["command"],
        metrics=values["metrics"],
        versions=values["versions"],
    )


def load_weights(method: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """`load_state_dict`, for a method some of whose buffers (clusters, a memory) may have grown in training."""
    resize_buffers(method, weights)
    method.load_state_dict(weights)


def resize_buffers(method: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Gives buffers the shapes of the tensors of the same names; their values are anything."""
    for name, buffer in list(method.named_buffers()):
        if name in tensors and tensors[name].shape != buffer.shape:
            owner, _, last = name.rpartition(".")
            setattr(method.get_submodule(owner), last, torch.empty_like(tensors[name], device=buffer.device))


def on_cpu(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies that a later step does not change."""
    return {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}


def write_values(path: Path, values: dict[str, Any]) -> None:
    """Writes tensors and plain values whole or not at all, even if the machine goes down."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        torch.save(values, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_values(path: Path, kind: str, expected: int) -> dict[str, Any]:
    """What `write_values` wrote; CheckpointError when it is something else or of another format."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever pickle, zip or its own reader met; its advice is unsafe
        raise CheckpointError(
            f"{path.name} is not {kind} of `glimpse train`: it does not hold plain tensors and values"
        ) from error
    found = values.get("format") if isinstance(values, dict) else None
    if found != expected:
        of_another = f"; it says format {found}" if found is not None else ""
        raise CheckpointError(f"{path.name} is not {kind} of `glimpse train`, format {expected}{of_another}")
    return dict(values)
