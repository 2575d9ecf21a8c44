"""`glimpse datasets`: which data sets can be read, whether one is whole, and Occluded-DukeMTMC from its source."""

from __future__ import annotations

import json
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glimpse.cli.annotate import annotate
from glimpse.cli.boundary import Failure, complain

if TYPE_CHECKING:
    from trainer.data.verification import Verification

datasets = typer.Typer(name="datasets", help="List, verify, convert and annotate data sets.", no_args_is_help=True)
datasets.command()(annotate)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SHOWN = 5
"""Ids or groups printed of each kind; the JSON has them all."""


class Target(StrEnum):
    """What can be converted to."""

    OCCLUDED_DUKE = "occluded-duke"


class Mode(StrEnum):
    """How images get there."""

    COPY = "copy"
    LINK = "link"
    LIST = "list"


@datasets.command("list")
def list_datasets(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Protocol, layout and licence of each.")] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="The table in Markdown: that of docs/datasets.md.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the data sets that can be trained on or evaluated, with the sizes they should have.

    Example: glimpse datasets list --verbose
    """
    from trainer.data import DATASETS, find_card

    rows: dict[str, dict[str, Any]] = {}
    for name, spec in DATASETS.items():
        card = find_card(name)
        rows[name] = {
            "name": f"{name}:PATH" if spec.needs_path else name,
            "title": card.title,
            "source": card.source,
            "training": bool(spec.training),
            "options": list(spec.options),
            "expected": {part: {"images": c.images, "people": c.people} for part, c in card.expected.items()},
            "protocol": card.protocol,
            "layout": card.layout,
            "licence": card.licence,
        }
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    if markdown:
        _print_markdown(rows)
        return
    if verbose:
        _print_cards(rows)
        return
    _print_table(rows)
    typer.echo(
        "Sizes: images/people. All but the generated ones want their folder, and options follow it:\n"
        "partial-reid:PATH@split=3. Each also takes shots=N,draw=SEED,pool=min or mean: queries of N\n"
        "images. `--verbose` tells protocols, layouts and licences."
    )


@datasets.command()
def verify(
    data: Annotated[str, typer.Argument(metavar="NAME:PATH", help="A data set of `glimpse datasets list`.")],
    decode: Annotated[
        bool, typer.Option("--decode", help="Decode every pixel: slower, finds more damage and black images.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Verify that a data set is whole: counts, image headers, copies, people without a second image or camera.

    Exit code 1 when a part is missing, a count is not the expected one or a file is no image.

    Example: glimpse datasets verify market1501:./market1501
    """
    from glimpse.cli.progress import progress
    from trainer.data.listing import DatasetError
    from trainer.data.verification import verify as check

    try:
        with ExitStack() as bar:
            found = check(data, decode=decode, progress=lambda total: bar.enter_context(progress("files", total)))
    except DatasetError as error:
        raise Failure(str(error)) from error
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=2))
    else:
        _print_findings(found)
    if not found.passed:
        raise typer.Exit(1)


@datasets.command()
def convert(
    to: Annotated[Target, typer.Argument(metavar="occluded-duke", help="What to make.")],
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="DukeMTMC-reID: its folder or a zip of it.")],
    target: Annotated[
        Path | None, typer.Argument(metavar="[TARGET]", help="A folder to be made; not needed with --mode list.")
    ] = None,
    mode: Annotated[
        Mode,
        typer.Option(
            help="copy; link (hard links, symbolic ones to another disk); list: write nothing, only check that every "
            "image is there."
        ),
    ] = Mode.COPY,
    as_json: AsJson = False,
) -> None:
    """Make Occluded-DukeMTMC out of DukeMTMC-reID by its published lists.

    Example: glimpse datasets convert occluded-duke DukeMTMC-reID.zip ./Occluded_Duke --mode copy
    """
    from glimpse.cli.progress import progress
    from trainer.data.listing import DatasetError
    from trainer.data.occluded_duke.conversion import convert as make
    from trainer.data.occluded_duke.lists import LISTS

    if mode is not Mode.LIST and target is None:
        raise typer.BadParameter(f"--mode {mode} needs a TARGET folder")
    try:
        with progress("images", sum(names.images for names in LISTS.values())) as advance:
            made = make(source, target, mode.value, progress=advance)
    except DatasetError as error:
        raise Failure(str(error)) from error
    if as_json:
        report = {"target": str(target) if made.written else None, "images": made.images, "moved": made.moved}
        typer.echo(json.dumps({"made": to.value, "written": made.written} | report, indent=2))
        return
    for part, count in made.images.items():
        typer.echo(f"{part:<8} {count:>6,} images, as listed ({made.moved[part]:,} out of bounding_box_test)")
    if made.written:
        typer.echo(f"{made.written} to {target}; use it as {to}:{target}")
    elif source.is_dir():
        typer.echo(f"nothing written; use it as {to}:{source}")
    else:
        typer.echo("nothing written; unpack the zip to use it so, or convert it with --mode copy")


def _table(rows: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Columns, then a row a data set; sizes are images/people."""
    parts = ("train", "query", "gallery")

    def count(row: dict[str, Any], part: str) -> str:
        sizes = row["expected"]
        if part in sizes:
            return f"{sizes[part]['images']:,}/{sizes[part]['people']:,}"
        if part == "train":
            return ("half split" if "split" in row["options"] else "yes") if row["training"] else "-"
        return f"all {sizes['all']['images']:,}/{sizes['all']['people']:,}" if "all" in sizes else "any"

    return [["name", "data set", *parts, "option"]] + [
        [name, row["title"], *(count(row, part) for part in parts), ", ".join(row["options"])]
        for name, row in rows.items()
    ]


def _print_table(rows: dict[str, dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    columns, *lines = _table(rows)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    shown = [i for i, column in enumerate(columns) if column != "data set" or console.width >= 120]
    for i in shown:
        size = columns[i] in ("train", "query", "gallery")
        table.add_column(columns[i], justify="right" if size else "left", no_wrap=size or i == 0)
    for line in lines:
        table.add_row(*(line[i] for i in shown))
    console.print(table)


def _print_markdown(rows: dict[str, dict[str, Any]]) -> None:
    columns, *lines = _table(rows)
    typer.echo(f"| {' | '.join(columns)} |\n| --- | --- | --: | --: | --: | --- |")
    for name, *rest in lines:
        typer.echo(f"| `{name}` | {' | '.join(rest)} |")


def _print_cards(rows: dict[str, dict[str, Any]]) -> None:
    for row in rows.values():
        sizes = "; ".join(f"{part} {c['images']:,} of {c['people']:,}" for part, c in row["expected"].items())
        typer.echo(f"{row['name']}\n  {row['title']} ({row['source']})")
        for label in ("layout", "protocol", "licence"):
            typer.echo(f"  {label + ':':<10}{row[label]}")
        typer.echo(f"  {'size:':<10}{sizes or 'any number'}\n")


def _print_findings(found: Verification) -> None:
    for part, findings in found.parts.items():
        typer.echo(
            f"{part:<8} {findings.images:>7,} images  {findings.people:>6,} people  {findings.cameras:>6,} cameras"
        )
    for fact in found.facts:
        typer.echo(f"- {fact}")
    same = found.copies
    if same.files:
        typer.echo(
            f"- {same.files:,} files are exact copies of others, in {len(same.groups):,} groups: {same.across:,} of "
            f"them in training and test part, {same.labelled_apart:,} named as different people"
        )
        _print_some([" = ".join(group) for group in same.groups])
    elif found.checked:
        typer.echo("- no two files are the same")
    if found.black:
        typer.echo(f"- {len(found.black):,} images are black")
        _print_some(list(found.black))
    for part, why in found.missing.items():
        complain(f"{part}: {why}")
    if found.unreadable:
        complain(f"{len(found.unreadable):,} of {found.checked:,} files are no images that can be used:")
        for name, why in list(found.unreadable.items())[:SHOWN]:
            complain(f"  {name}: {why}")
    if found.passed:
        typer.secho(f"{found.checked:,} files checked: whole and readable", fg=typer.colors.GREEN)
    else:
        complain(f"{found.name} is not whole or not readable")


def _print_some(lines: list[str]) -> None:
    for line in lines[:SHOWN]:
        typer.echo(f"    {line}")
    if len(lines) > SHOWN:
        typer.echo(f"    and {len(lines) - SHOWN:,} more (--json has them all)")
