"""`glimpse bench`: run one of the benchmarks of a checkout."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from pathlib import Path
from typing import Annotated

import typer

from glimpse.cli.boundary import Failure

ROOT = Path(__file__).resolve().parent.parent.parent


def bench(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Which one; leave it out to list them.")] = "",
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer repetitions: at most three minutes on two cores.")
    ] = False,
    model: Annotated[
        Path | None, typer.Option(metavar="BUNDLE", help="The bundle to measure, where a benchmark runs one.")
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the figures as JSON too.")] = None,
) -> None:
    """Measure, and print the figures with their goals.

    Exit code 1 when a goal is missed.

    Example: glimpse bench serving --quick --json serving.json
    """
    choices = benchmarks(ROOT / "benchmarks")
    if not choices:
        raise Failure("benchmarks are part of a checkout, not of the installed package: git clone the repository first")
    if not name:
        for choice, purpose in choices.items():
            typer.echo(f"{choice:<12}{purpose}")
        return
    if name not in choices:
        raise typer.BadParameter(f"no benchmark {name!r}; choose one of {', '.join(choices)}", param_hint="NAME")
    sys.path.insert(0, str(ROOT))  # an installed `glimpse` command does not see the checkout's other folders
    run = importlib.import_module(f"benchmarks.{name}").run
    if model is not None and "model" not in inspect.signature(run).parameters:
        raise typer.BadParameter(f"the benchmark {name} has no use for a model", param_hint="--model")
    report = run(quick) if model is None else run(quick, model=model)
    report.print()
    if json is not None:
        report.write_json(json)
    if report.missed:
        raise typer.Exit(1)


def benchmarks(folder: Path) -> dict[str, str]:
    """Name -> first line of its docstring, of every file in ``folder`` that defines ``run``; none is imported."""
    found = {}
    for path in sorted(folder.glob("*.py")):
        module = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "run" for node in module.body):
            found[path.stem] = (ast.get_docstring(module) or "").partition("\n")[0]
    return found
