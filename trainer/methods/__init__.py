"""Registry of methods: one file each, imported when it is asked for.

A method is a `torch.nn.Module` built by ``from_recipe(recipe, identities)`` with

- ``schema``: the `PartSchema` of its features,
- ``forward(images)``: uint8 RGB ``(N, H, W, 3)`` to ``(vectors, visibility)``, the graph a bundle holds,
- ``losses(batch)``: a `trainer.data.batch.Batch` to named scalars, already weighted; their sum is minimised,
- ``Options``: the pydantic model of the recipe's ``options``.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class MethodSpec:
    """Where a method lives and what it is."""

    target: str
    summary: str

    def load(self) -> Any:
        """The method's class."""
        module, _, name = self.target.partition(":")
        return getattr(importlib.import_module(module), name)


METHODS: dict[str, MethodSpec] = {
    "glimpse": MethodSpec("trainer.methods.glimpse:Glimpse", "part attention with learnt visibility"),
}


def find_method(name: str) -> MethodSpec:
    """The spec called ``name``; ValueError lists the choices."""
    if name not in METHODS:
        raise ValueError(f"unknown method {name!r}; choose from {sorted(METHODS)}")
    return METHODS[name]
