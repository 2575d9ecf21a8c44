"""Tiny instances of any method, for tests of what all have in common and of what each has alone."""

from __future__ import annotations

from typing import Any

import torch

from trainer.data.training import Population
from trainer.methods import find_method
from trainer.recipe import Recipe, parse_recipe

PEOPLE = Population(4, 2)
CNN: dict[str, Any] = {"name": "test_resnet", "strides": [16], "last_stride": 1}
MAPS: dict[str, Any] = {"name": "test_resnet", "strides": [8, 16, 32]}
VIT: dict[str, Any] = {"name": "test_vit", "strides": [16]}


def recipe_for(
    method: str, backbone: dict[str, Any] = CNN, *, size: tuple[int, int] = (64, 32), **options: object
) -> Recipe:
    return parse_recipe(
        {
            "name": "test",
            "method": method,
            "options": options,
            "backbone": {"pretrained": False, **backbone},
            "preprocessing": {"height": size[0], "width": size[1]},
            "schedule": {"steps": 1},
        }
    )


def build(
    method: str,
    backbone: dict[str, Any] = CNN,
    *,
    size: tuple[int, int] = (64, 32),
    people: Population = PEOPLE,
    **options: object,
) -> Any:
    """A method in training mode, the same weights every time."""
    torch.manual_seed(0)
    recipe = recipe_for(method, backbone, size=size, **options)
    return find_method(method).load().from_recipe(recipe, people)


def columns(method: Any, part: str) -> slice:
    """Where a part stands in the method's vectors."""
    found: slice = method.schema.slices[method.schema.names.index(part)]
    return found


class Fixed(torch.nn.Module):  # type: ignore[misc]
    """A trunk that gives the maps it is told, ``(N, C, h, w)``, whatever the images: for sums done by hand."""

    def __init__(self, maps: Any) -> None:
        super().__init__()
        self.maps = torch.nn.Parameter(torch.as_tensor(maps, dtype=torch.float32))
        self.channels = self.maps.shape[1]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.maps[: len(images)]
