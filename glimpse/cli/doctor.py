"""`glimpse doctor`: what is installed, what really runs, and what to repair."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glimpse import __version__

if TYPE_CHECKING:
    from glimpse.bundle import Bundle

PACKAGES: dict[str, tuple[str, ...]] = {
    "serving": ("numpy", "opencv-python-headless", "grpcio", "protobuf", "pydantic", "prometheus-client", "uvloop"),
    "inference": ("onnxruntime", "onnxruntime-gpu", "openvino"),
    "search": ("numba", "llvmlite"),
    "training": ("torch", "torchvision", "timm", "lightning"),
    "export": ("onnx", "onnxscript"),
}


def doctor(
    model: Annotated[
        Path | None, typer.Option(metavar="BUNDLE", help="The bundle to try. Default: the one that comes with Glimpse.")
    ] = None,
) -> None:
    """Tell what is installed and which providers really run.

    Exit code 1 when something needs repair.

    Example: glimpse doctor
    """
    typer.echo(f"glimpse {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    _packages()
    _cores()
    healthy = _wheels()
    healthy = _providers(model) and healthy
    raise typer.Exit(0 if healthy else 1)


def _packages() -> None:
    for purpose, names in PACKAGES.items():
        found = [f"{name} {version}" for name in names if (version := _version(name))]
        _line(purpose, ", ".join(found) if found else "nothing installed")


def _cores() -> None:
    from glimpse.runtime.threads import available_cores, cgroup_quota

    quota = cgroup_quota()
    granted = f"cgroup quota {quota:g}" if quota is not None else "no cgroup quota"
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    _line("cores", f"{available_cores()} to use ({os.cpu_count()} in the host, {allowed} by affinity, {granted})")


def _wheels() -> bool:
    from glimpse.runtime.wheels import find_conflicts

    conflicts = find_conflicts()
    for conflict in conflicts:
        _line("wheels", str(conflict), bad=True)
    if not conflicts:
        _line("wheels", "no conflicts")
    return not conflicts


def _providers(model: Path | None) -> bool:
    """Opens the model on each provider; whether at least one runs it."""
    from glimpse.runtime import PROVIDERS, GoldenMismatch, ProviderError, SessionError, open_session

    bundle = _bundle(model)
    if bundle is None:
        return False
    running = 0
    for name in PROVIDERS:
        try:
            session = open_session(bundle, name)
        except ProviderError as error:
            _line(name, f"not in use: {str(error).splitlines()[0]}")
        except (GoldenMismatch, SessionError) as error:
            _line(name, f"wrong results: {error}", bad=True)
        else:
            running += 1
            _line(name, f"runs, golden samples hold, {session.threads} threads")
    if not running:
        _line("provider", "none runs the model: pip install '.[cpu]' -c constraints.txt", bad=True)
    return running > 0


def _bundle(model: Path | None) -> Bundle | None:
    from glimpse.bundle import BundleError, open_bundle
    from server.settings import ConfigurationError, default_model

    try:
        bundle = open_bundle(model or default_model())
    except (BundleError, ConfigurationError) as error:
        _line("model", str(error), bad=True)
        return None
    _line("model", f"{bundle.identity}, hashes hold")
    return bundle


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _line(label: str, text: str, *, bad: bool = False) -> None:
    typer.secho(f"{label:<10} {text}", fg=typer.colors.RED if bad else None)
