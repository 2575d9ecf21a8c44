"""`glimpse export`: a checkpoint to a bundle."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from glimpse.cli.boundary import Failure, complain

if TYPE_CHECKING:
    from exporter.variants import Judged
    from glimpse.precision import Precision


VERSION, QUERIES = "0.1.0", 2000


class Extra(StrEnum):
    """Precisions that can be added."""

    float16 = "float16"
    int8 = "int8"


def export(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="checkpoint.pt of `glimpse train`; or a bundle, to add to.")
    ],
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The folder or .zip to write.")],
    version: Annotated[str, typer.Option(help="Version of the bundle.")] = VERSION,
    metrics: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE.json", help="Report of `glimpse evaluate --json` to record; repeatable."),
    ] = None,
    precision: Annotated[
        list[Extra] | None, typer.Option(help="A graph to add to the float32 one: float16, int8; repeatable.")
    ] = None,
    default: Annotated[
        Literal["float32", "float16", "int8"], typer.Option(help="What `--precision auto` will run.")
    ] = "float32",
    calibration: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Images for int8's ranges; else generated people.")
    ] = None,
    queries: Annotated[int, typer.Option(min=4, help="Occluded queries of the parity gate.")] = QUERIES,
    engine: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also build a TensorRT engine for the GPU here.")
    ] = None,
) -> None:
    """Export to ONNX, hold it against the checkpoint, and write a bundle with golden samples.

    The parity gate runs every precision on occluded people and compares parts, visibility and rankings with the
    checkpoint's. Exit code 1, and no bundle, when one is further off than its limits.

    A bundle in place of the checkpoint keeps its float32 graph and gets the precisions that are named, judged by the
    reference it carries; that needs no torch.

    Example: glimpse export checkpoints/glimpse-lite/checkpoint.pt models/glimpse-lite --precision int8
    """
    from glimpse.precision import PRECISIONS  # pydantic, which `--help` does without

    figures, protocol = _recorded(metrics or [])
    wanted = tuple(name for name in PRECISIONS if name in {each.value for each in precision or ()})
    if default not in ("float32", *wanted):
        raise typer.BadParameter(f"add it with --precision {default} first", param_hint="--default")
    if calibration is not None and "int8" not in wanted:
        raise typer.BadParameter("only --precision int8 is calibrated", param_hint="--calibration")
    if checkpoint.is_dir() or checkpoint.suffix == ".zip":
        if not wanted:
            raise typer.BadParameter("a bundle gets what --precision names", param_hint="--precision")
        if metrics or engine is not None or queries != QUERIES or version != VERSION:
            raise typer.BadParameter(
                "a bundle keeps its version, figures and queries; give a checkpoint to change them"
            )
        _add(checkpoint, bundle, wanted, default, calibration)
        return
    from exporter.export import GateFailed
    from exporter.export import export as run
    from exporter.graph import ParityError
    from exporter.int8 import CalibrationError
    from trainer.checkpoint import CheckpointError

    try:
        exported = run(
            checkpoint,
            bundle,
            version=version,
            metrics=figures,
            protocol=protocol,
            precisions=wanted,
            queries=queries,
            calibration=calibration,
            default_precision=default,
        )
    except GateFailed as error:
        for judged in error.judged:
            _show(judged)
        raise Failure(f"{bundle} was not written: {error}") from error
    except (ParityError, CheckpointError, CalibrationError, ValueError) as error:
        raise Failure(str(error)) from error
    for judged in exported.judged:
        _show(judged)
    written, parity = exported.bundle, exported.parity
    size = sum(len(data) for data in written.contents.values()) / 2**20
    typer.echo(
        f"{bundle}: {written.identity}, {size:.1f} MiB; ONNX Runtime against torch: smallest cosine of a part "
        f"{parity.min_cosine:.7f}, largest visibility difference {parity.max_visibility_difference:.1e}"
    )
    if engine is not None:
        from exporter.tensorrt import EngineError, build_engine

        try:
            built = build_engine(written, "float16" if "float16" in wanted else "float32")
        except EngineError as error:
            raise Failure(str(error)) from error
        built.write(engine)
        typer.echo(f"{engine}: {built.about}")


def _add(
    source: Path,
    target: Path,
    wanted: tuple[Precision, ...],
    default: Literal["float32", "float16", "int8"],
    calibration: Path | None,
) -> None:
    """Precisions for a bundle that exists."""
    from exporter.added import add_precisions
    from exporter.graph import ParityError
    from exporter.variants import GateFailed
    from glimpse.runtime.gate import GateError

    try:
        written, judged = add_precisions(source, target, wanted, calibration=calibration, default_precision=default)
    except GateFailed as error:
        for each in error.judged:
            _show(each)
        raise Failure(f"{target} was not written: {error}") from error
    except (ParityError, GateError, ValueError) as error:  # BundleError and CalibrationError are ValueErrors
        raise Failure(str(error)) from error
    for each in judged:
        _show(each)
    typer.echo(f"{target}: {written.identity} with {', '.join(written.manifest.graphs)}")


def _show(judged: Judged) -> None:
    """The gate's table, and of a graph that failed the layers at which it goes wrong."""
    for line in judged.verdict.lines():
        if line.startswith("!"):
            complain(line)
        else:
            typer.echo(line)
    if judged.entry.kept_in_float:
        typer.echo(f"  kept in float32: {', '.join(judged.entry.kept_in_float)}")
    for layer in judged.layers:
        complain(f"! {layer}")


def _recorded(reports: list[Path]) -> tuple[dict[str, float], str]:
    """Figures and protocol of evaluation reports, keyed ``data_row_figure``."""
    figures: dict[str, float] = {}
    protocols = []
    for path in reports:
        try:
            report = json.loads(path.read_text())
            name = str(report["data"]).replace("-", "_")
            for row in ("weighted", "unweighted"):
                values = report["rows"][row]
                for figure in ("rank1", "rank5", "rank10", "mAP", "mAP_trapezoidal", "mINP"):
                    figures[f"{name}_{row}_{figure}"] = round(float(values[figure]), 4)
            protocols.append(f"{report['data']}: {'; '.join(report['protocol'])}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Failure(f"{path} is not a report of `glimpse evaluate --json`: {error}") from error
    return figures, ". ".join(protocols)
