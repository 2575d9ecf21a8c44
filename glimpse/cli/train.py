"""`glimpse train`: a recipe to a checkpoint."""

from __future__ import annotations

import logging
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from glimpse.cli.boundary import Failure


def train(
    recipe: Annotated[str, typer.Option(metavar="NAME|FILE.yaml", help="A recipe of trainer/recipes, or a file.")],
    data: Annotated[str, typer.Option(help="What to train on: generated (people that Glimpse draws).")] = "generated",
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Default: checkpoints/RECIPE.")] = None,
    seed: Annotated[int, typer.Option(help="Of weights, batches and augmentation.")] = 0,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a value, e.g. schedule.steps=200.")
    ] = None,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="A handful of steps on a few dozen people: proves the path only.")
    ] = False,
) -> None:
    """Train a model and write its checkpoint.

    Example: glimpse train --recipe glimpse-baseline --data generated --seed 1
    """
    if data != "generated":
        raise typer.BadParameter(f"{data!r} cannot be trained on; the choice is generated", param_hint="--data")
    from trainer.recipe import RecipeError, load_recipe

    try:
        chosen = load_recipe(recipe, overrides or [])
    except RecipeError as error:
        raise Failure(str(error)) from error
    if smoke:
        chosen = chosen.smoke()
    from trainer.loop import TrainingError
    from trainer.loop import train as run

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("glimpse.train").setLevel(logging.INFO)
    typer.echo(f"recipe {chosen.name}, seed {seed}: {chosen.model_dump_json(indent=2)}", err=True)
    command = shlex.join(["glimpse", *sys.argv[1:]])
    try:
        checkpoint = run(
            chosen,
            out or Path("checkpoints") / chosen.name,
            seed=seed,
            command=command,
            progress=sys.stderr.isatty(),
        )
    except (TrainingError, ValueError) as error:
        raise Failure(str(error)) from error
    typer.echo(checkpoint)
