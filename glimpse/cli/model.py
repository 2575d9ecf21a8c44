"""`glimpse model`: look into a bundle and verify it; needs neither torch nor a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glimpse.cli.boundary import Failure, complain
from glimpse.cli.quantities import size

if TYPE_CHECKING:
    from glimpse.bundle import Bundle as Opened
    from glimpse.calibration import Calibration
    from glimpse.runtime import Session

model = typer.Typer(name="model", help="Look into a model bundle and verify it.", no_args_is_help=True)

Bundle = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle: a folder or a .zip.")]


@model.command()
def show(
    bundle: Bundle, as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False
) -> None:
    """Show what a bundle is, after checking its hashes.

    Example: glimpse model show models/glimpse-baseline
    """
    from glimpse.bundle import open_bundle

    opened = open_bundle(bundle)
    manifest = opened.manifest
    if as_json:
        typer.echo(json.dumps(manifest.model_dump(mode="json", by_alias=True), indent=2))
        return
    recipe = manifest.preprocessing
    made = manifest.provenance
    rows = {
        "model": f"{manifest.name} {manifest.version} ({manifest.method})",
        "sha256": opened.identity.sha256,
        "licence": manifest.license,
        "size": f"{size(sum(map(len, opened.contents.values())))} in {', '.join(manifest.files)}",
        "input": f"{recipe.height} x {recipe.width} pixels (h x w), {recipe.interpolation}; opset {manifest.opset}",
        "parts": opened.schema.describe(),
        "weights": ", ".join(f"{part.name} {part.weight:g}" for part in opened.schema.parts),
        "precisions": ", ".join(
            f"{name}{' (default)' if name == manifest.default_precision else ''}" for name in manifest.graphs
        ),
        "always visible": ", ".join(part.name for part in opened.schema.parts if part.always_visible) or "none",
        "prior": f"{opened.schema.prior:g}",
        "backbone": made.backbone,
        "trained on": made.training_data,
        "made by": f"{made.command} (seed {made.seed}, {made.created_at:%Y-%m-%d})",
    }
    if manifest.calibration is not None:
        rows |= _calibration(manifest.calibration)
    for name, entry in manifest.precisions.items():
        if entry.kept_in_float:
            rows[f"{name} keeps float"] = ", ".join(entry.kept_in_float)
        for figures in entry.figures:
            rows[f"{name} gate"] = (
                f"{figures.queries:,} occluded queries on {figures.provider}: least cosine of a part "
                f"{min(figures.min_cosine.values()):.5f}, same first item {figures.own.top1:.2%}, "
                f"mAP {100 * -figures.own.mAP_drop:+.2f}, Rank-1 {100 * -figures.own.rank1_drop:+.2f} points"
            )
    if manifest.protocol:
        rows["measured"] = manifest.protocol
    width = max(map(len, [*rows, *manifest.metrics]))
    for label, value in rows.items():
        typer.echo(f"{label:<{width}}  {value}")
    for label, figure in manifest.metrics.items():
        typer.echo(f"{label:<{width}}  {figure:g}")


def _calibration(calibration: Calibration) -> dict[str, str]:
    """What matches' probabilities and thresholds are worth."""
    counts, error = calibration.source.counts, calibration.metrics.get("ece_even")
    rows = {
        "calibrated": f"{calibration.kind} on {calibration.source.data}, {counts.get('fit_people', 0):,} people; prior "
        f"{calibration.prior:g}" + ("" if error is None else f"; error at even odds {error:.4f}"),
    }
    for row in calibration.thresholds:
        rows[f"false matches {row.false_match_rate:g}"] = (
            f"distance {row.distance:.4f} ({row.low:.4f} to {row.high:.4f}); held out {row.held_out_rate:.2g}, "
            f"{row.held_out_found:.0%} of the pairs of one person found"
        )
    for one in calibration.gallery_thresholds:
        held = "extrapolated" if one.held_out_fpir is None else f"held out {one.held_out_fpir:.1%}"
        rows[f"FPIR {one.fpir:g} at {one.people:,}"] = f"distance {one.distance:.4f}; {held}"
    return rows


@model.command()
def verify(
    bundle: Bundle,
    provider: Annotated[str, typer.Option(help="auto, or the provider that must run it.")] = "auto",
    precision: Annotated[
        str, typer.Option(help="all that the bundle has, auto, or one: float32, bfloat16, float16, int8.")
    ] = "all",
    gate: Annotated[
        bool, typer.Option("--gate", help="Run the parity gate too: does it rank as the trained model did?")
    ] = False,
    queries: Annotated[
        int | None, typer.Option(min=4, help="Queries of the gate, a multiple of 4; default: all in the bundle.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the findings as JSON.")
    ] = None,
) -> None:
    """Verify hashes and golden samples: exit code 0 only when all hold.

    With --gate, also the limits of the manifest on generated, partly hidden people: minutes instead of seconds.

    Example: glimpse model verify models/glimpse-lite --provider cpu --gate
    """
    from glimpse.bundle import BundleError, open_bundle
    from glimpse.runtime import GoldenMismatch, ProviderError, SessionError
    from glimpse.runtime.gate import GateError

    if queries is not None and (not gate or queries % 4):
        raise typer.BadParameter("a multiple of 4, and only with --gate", param_hint="--queries")
    findings: dict[str, Any] = {"bundle": bundle.name, "passed": False, "precisions": []}
    failed: list[str] = []
    try:
        opened = open_bundle(bundle)
        findings["model"] = str(opened.identity)
        findings["sha256"] = opened.identity.sha256
        typer.echo(f"{opened.identity}: {len(opened.manifest.files)} hashes hold")
        for wanted in _precisions(opened, provider, precision):
            session, found = _verify_golden(opened, provider, wanted)
            findings["precisions"].append(found)
            if gate:
                failed += _verify_gate(session, queries, found)
        # As a bundle of one precision was reported before there were several.
        first = ("provider", "samples", "min_cosine", "max_visibility_difference", "limits")
        findings |= {key: findings["precisions"][0][key] for key in first}
        findings["passed"] = not failed
        if failed:
            raise Failure("; ".join(failed))
    except (BundleError, Failure, GateError, GoldenMismatch, ProviderError, SessionError) as error:
        findings["error"] = str(error)
        raise
    finally:
        if json_file is not None:
            json_file.write_text(json.dumps(findings, indent=2) + "\n")
    typer.secho("verified", fg=typer.colors.GREEN)


def _precisions(opened: Opened, provider: str, wanted: str) -> tuple[str, ...]:
    """The precisions to verify: all graphs of the bundle that the provider can run."""
    from glimpse.runtime.providers import candidates

    if wanted != "all":
        return (wanted,)
    computed = {precision for choice in candidates(provider) for precision in choice.precisions}
    return tuple(precision for precision in opened.manifest.graphs if precision in computed)


def _verify_golden(opened: Opened, provider: str, precision: str) -> tuple[Session, dict[str, Any]]:
    from glimpse.runtime import GoldenMismatch, open_session

    session = open_session(opened, provider, precision=precision)
    report = session.verify()
    limits = report.tolerance
    typer.echo(f"{report.samples} golden samples in {session.precision} on provider {session.provider}:")
    for part, cosine in report.min_cosine.items():
        typer.echo(f"  {part:<12} cosine {cosine:.6f}   (at least {limits.min_cosine:g})")
    differs, most = report.max_visibility_difference, limits.max_visibility_difference
    typer.echo(f"  {'visibility':<12} within {differs:.6f} (at most {most:g})")
    if not report.passed:  # opening checked them already; a runtime that differs from run to run ends here
        raise GoldenMismatch("; ".join(report.problems))
    return session, {
        "precision": session.precision,
        "provider": session.provider,
        "samples": report.samples,
        "min_cosine": dict(report.min_cosine),
        "max_visibility_difference": report.max_visibility_difference,
        "limits": limits.model_dump(),
    }


def _verify_gate(session: Session, queries: int | None, found: dict[str, Any]) -> list[str]:
    """Runs the gate, prints its table, and gives a sentence for each limit that was passed."""
    from glimpse.runtime.gate import judge

    verdict = judge(session, queries=queries)
    for line in verdict.lines():
        if line.startswith("!"):
            complain(line)
        else:
            typer.echo(line)
    found["gate"] = verdict.figures.model_dump() | {
        "limits": verdict.limits.model_dump(),
        "problems": list(verdict.problems),
        "passed": verdict.passed,
        "images_left_out": verdict.left_out,
    }
    return [f"{session.precision} on {session.provider}: {problem}" for problem in verdict.problems]
