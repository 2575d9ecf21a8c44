"""`glimpse export`: a checkpoint to a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from glimpse.cli.boundary import Failure


def export(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="checkpoint.pt of `glimpse train`.")],
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The folder or .zip to write.")],
    version: Annotated[str, typer.Option(help="Version of the bundle.")] = "0.1.0",
    metrics: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE.json", help="Report of `glimpse evaluate --json` to record; repeatable."),
    ] = None,
) -> None:
    """Export to ONNX, check it against the checkpoint, and write a bundle with golden samples.

    Example: glimpse export checkpoints/glimpse-baseline/checkpoint.pt models/glimpse-baseline
    """
    from exporter.export import export as run
    from exporter.graph import ParityError
    from trainer.checkpoint import CheckpointError

    figures, protocol = _recorded(metrics or [])
    try:
        written, parity = run(checkpoint, bundle, version=version, metrics=figures, protocol=protocol)
    except (ParityError, CheckpointError) as error:
        raise Failure(str(error)) from error
    size = sum(map(len, written.contents.values())) / 2**20
    typer.echo(
        f"{bundle}: {written.identity}, {size:.1f} MiB; ONNX Runtime against torch: smallest cosine of a part "
        f"{parity.min_cosine:.7f}, largest visibility difference {parity.max_visibility_difference:.1e}"
    )


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
