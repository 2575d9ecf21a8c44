"""The `glimpse` command.

Every command is a thin function in a file of its own that imports what it needs when it runs, so that
``glimpse --help`` is quick and `serve` can set thread variables before NumPy is loaded.
"""

from __future__ import annotations

from typing import Annotated

import typer

from glimpse import __version__
from glimpse.cli.audit import audit
from glimpse.cli.bench import bench
from glimpse.cli.boundary import Commands
from glimpse.cli.calibrate import calibrate
from glimpse.cli.datasets import datasets
from glimpse.cli.demo import demo
from glimpse.cli.doctor import doctor
from glimpse.cli.evaluate import evaluate
from glimpse.cli.export import export
from glimpse.cli.gallery import gallery
from glimpse.cli.health import health
from glimpse.cli.index import index
from glimpse.cli.keeping import alias, erase, migrate, snapshot
from glimpse.cli.model import model
from glimpse.cli.occlude import occlude
from glimpse.cli.restore import restore
from glimpse.cli.search import search
from glimpse.cli.serve import serve
from glimpse.cli.token import token
from glimpse.cli.train import train

main = typer.Typer(
    cls=Commands,
    name="glimpse",
    help="Find a person again from a partly hidden view.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

SERVING, KEEPING, TRAINING, CHECKING = "Serve and search", "Keep and forget", "Train", "Look inside"

main.command(rich_help_panel=SERVING)(demo)
main.command(rich_help_panel=SERVING)(serve)
main.command(rich_help_panel=SERVING)(index)
main.command(rich_help_panel=SERVING)(search)
main.add_typer(gallery, rich_help_panel=SERVING)
main.command(rich_help_panel=KEEPING)(erase)
main.add_typer(snapshot, rich_help_panel=KEEPING)
main.command(rich_help_panel=KEEPING)(restore)
main.add_typer(alias, rich_help_panel=KEEPING)
main.command(rich_help_panel=KEEPING)(migrate)
main.add_typer(token, rich_help_panel=SERVING)
main.add_typer(audit, rich_help_panel=SERVING)
main.command(rich_help_panel=TRAINING)(train)
main.command(rich_help_panel=TRAINING)(evaluate)
main.command(rich_help_panel=TRAINING)(export)
main.command(rich_help_panel=TRAINING)(calibrate)
main.command(rich_help_panel=TRAINING)(occlude)
main.add_typer(datasets, rich_help_panel=TRAINING)
main.add_typer(model, rich_help_panel=CHECKING)
main.command(rich_help_panel=CHECKING)(doctor)
main.command(rich_help_panel=CHECKING)(health)
main.command(rich_help_panel=CHECKING)(bench)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"glimpse {__version__}")
        raise typer.Exit


@main.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass
