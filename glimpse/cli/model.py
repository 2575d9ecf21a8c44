"""`glimpse model`: look into a bundle and verify it; needs neither torch nor a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from glimpse.cli.quantities import size

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
        "always visible": ", ".join(part.name for part in opened.schema.parts if part.always_visible) or "none",
        "prior": f"{opened.schema.prior:g}",
        "backbone": made.backbone,
        "trained on": made.training_data,
        "made by": f"{made.command} (seed {made.seed}, {made.created_at:%Y-%m-%d})",
    }
    if manifest.protocol:
        rows["measured"] = manifest.protocol
    width = max(map(len, [*rows, *manifest.metrics]))
    for label, value in rows.items():
        typer.echo(f"{label:<{width}}  {value}")
    for label, figure in manifest.metrics.items():
        typer.echo(f"{label:<{width}}  {figure:g}")


@model.command()
def verify(
    bundle: Bundle,
    provider: Annotated[str, typer.Option(help="auto, or the provider that must run it.")] = "auto",
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the findings as JSON.")
    ] = None,
) -> None:
    """Verify hashes and golden samples: exit code 0 only when all hold.

    Example: glimpse model verify models/glimpse-baseline --provider cpu
    """
    from glimpse.bundle import BundleError, open_bundle
    from glimpse.runtime import GoldenMismatch, ProviderError, SessionError, open_session

    findings: dict[str, Any] = {"bundle": bundle.name, "passed": False}
    try:
        opened = open_bundle(bundle)
        findings["model"] = str(opened.identity)
        findings["sha256"] = opened.identity.sha256
        session = open_session(opened, provider)
        report = session.verify()
        findings |= {
            "provider": session.provider,
            "samples": report.samples,
            "min_cosine": dict(report.min_cosine),
            "max_visibility_difference": report.max_visibility_difference,
            "limits": opened.manifest.golden.model_dump(),
            "passed": report.passed,
        }
    except (BundleError, GoldenMismatch, ProviderError, SessionError) as error:
        findings["error"] = str(error)
        raise
    finally:
        if json_file is not None:
            json_file.write_text(json.dumps(findings, indent=2) + "\n")
    limits = opened.manifest.golden
    typer.echo(f"{opened.identity}: {len(opened.manifest.files)} hashes hold")
    typer.echo(f"{report.samples} golden samples on provider {session.provider}:")
    for part, cosine in report.min_cosine.items():
        typer.echo(f"  {part:<12} cosine {cosine:.6f}   (at least {limits.min_cosine:g})")
    differs, most = report.max_visibility_difference, limits.max_visibility_difference
    typer.echo(f"  {'visibility':<12} within {differs:.6f} (at most {most:g})")
    if not report.passed:  # opening checked them already; a runtime that differs from run to run ends here
        raise GoldenMismatch("; ".join(report.problems))
    typer.secho("verified", fg=typer.colors.GREEN)
