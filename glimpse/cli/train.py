"""`glimpse train`: a recipe and data to a checkpoint."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glimpse.cli.boundary import Failure

if TYPE_CHECKING:
    from trainer.recipe import Recipe


def train(
    recipe: Annotated[str, typer.Option(metavar="NAME|FILE.yaml", help="A recipe of trainer/recipes, or a file.")],
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:PATH]",
            help="generated (people that Glimpse draws; the default), or a data set with its folder: "
            "market1501:PATH. Give it again for several.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Default: checkpoints/RECIPE.")] = None,
    seed: Annotated[int, typer.Option(help="Of weights, batches and augmentation.")] = 0,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a value, e.g. schedule.steps=200.")
    ] = None,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="A handful of steps on a few dozen people: proves the path only.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in DIR, with the same recipe, data and seed.")
    ] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Throw away an unfinished run in DIR.")] = False,
    devices: Annotated[
        int | None, typer.Option(min=1, help="Accelerators, or CPU processes. Default: all accelerators, or one.")
    ] = None,
) -> None:
    """Train a model and write its checkpoint.

    Example: glimpse train --recipe glimpse-baseline --data generated --data market1501:market1501 --seed 1
    """
    from trainer.recipe import RecipeError, load_recipe

    try:
        chosen = load_recipe(recipe, overrides or [])
    except RecipeError as error:
        raise Failure(str(error)) from error
    leads = os.environ.get("LOCAL_RANK", "0") == "0"  # the processes of further devices run this command too
    if smoke:
        chosen = _small(chosen, leads)
    from trainer.loop import TrainingError, unfinished
    from trainer.loop import train as run

    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", handlers=[_Stderr()]
    )
    logging.getLogger("glimpse.train").setLevel(logging.INFO if leads else logging.ERROR)
    folder = out or Path("checkpoints") / (f"{chosen.name}-smoke" if smoke else chosen.name)
    if leads:
        typer.echo(f"recipe {chosen.name}, seed {seed}: {chosen.model_dump_json(indent=2)}", err=True)
    try:
        found = None if resume or restart or smoke else unfinished(folder)
        if found:
            raise Failure(f"{folder} holds an unfinished run, {found}: --resume goes on with it, --restart discards it")
        checkpoint = run(
            chosen,
            folder,
            data=data or ["generated"],
            seed=seed,
            command=shlex.join(["glimpse", *sys.argv[1:]]),
            progress=sys.stderr.isatty(),
            resume=resume,
            limit=chosen.data.identities if smoke else None,
            devices=devices,
        )
    except (TrainingError, ValueError) as error:
        raise Failure(str(error)) from error
    if leads:
        typer.echo(checkpoint)


def _small(recipe: Recipe, tell: bool) -> Recipe:
    """The recipe's smoke run; it fetches no weights."""
    from trainer.backbones import BACKBONES

    small = recipe.smoke()
    if not small.backbone.pretrained or small.backbone.name in BACKBONES:
        return small
    if tell:
        typer.echo(
            f"smoke: {small.backbone.name} begins with random weights, so that none have to be fetched", err=True
        )
    return small.model_copy(update={"backbone": small.backbone.model_copy(update={"pretrained": False})})


class _Stderr(logging.Handler):
    """Writes to whatever stderr is at the time: the live line puts its own there, above which log lines appear."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)
