"""What a method and its simulators ask of a recipe, checked before any data is opened."""

from __future__ import annotations

from typing import Any

from trainer.methods import find_method
from trainer.occlusion import OccluderLibrary, SimulatorError, build_simulator
from trainer.recipe import Recipe, RecipeError


def check_recipe(recipe: Recipe) -> None:
    """What can be known to be wrong before data is opened.

    Raises:
        RecipeError: a view that the method needs and the recipe does not make; a simulator that cannot be built.
    """
    check_views(recipe, find_method(recipe.method).load())
    try:
        library = OccluderLibrary.open(recipe.occlusion.library)
        for step in (*recipe.occlusion.training, *(s for steps in recipe.occlusion.views.values() for s in steps)):
            build_simulator(step.simulator, step.options, library)
    except SimulatorError as error:
        raise RecipeError(f"occlusion: {error}") from error


def check_views(recipe: Recipe, method: Any) -> None:
    """Whether every version of an image that the method's losses read is made.

    Args:
        method: the class, or the built method, whose views may depend on its options.

    Raises:
        RecipeError: names those that are missing.
    """
    needed = getattr(method, "views", ())
    if isinstance(needed, property):
        return
    missing = [name for name in needed if name not in recipe.occlusion.views]
    if missing:
        raise RecipeError(
            f"method {recipe.method!r} needs further versions of each image; occlusion.views must say how "
            f"{', '.join(map(repr, missing))} are made, it has {sorted(recipe.occlusion.views)}"
        )
