"""Where errors meet the person at the terminal: one red sentence on stderr, never a trace for an expected failure.

Exit codes: 0 done; 1 it did not work, and the sentence says why; 2 the command line is wrong; 130 Ctrl-C. A bug keeps
its trace.
"""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

EXPECTED = frozenset(
    {
        "glimpse.cli.boundary:Failure",
        "glimpse.client.errors:GlimpseError",
        "glimpse.bundle_files:BundleError",
        "glimpse.image_headers:ImageError",
        "glimpse.runtime.gate.fixture:GateError",
        "glimpse.runtime.golden:GoldenMismatch",
        "glimpse.runtime.providers:ProviderError",
        "glimpse.runtime.session:SessionError",
        "glimpse.runtime.wheels:WheelConflict",
        "server.errors:ServerError",
        "server.security.credentials:AccessError",
        "server.settings:ConfigurationError",
    }
)
"""Errors whose message is a sentence for the user. Named, not imported: most commands need few of these modules."""

EXTRAS = {
    "torch": "train",
    "timm": "train",
    "lightning": "train",
    "tensorboard": "train",
    "scipy": "train",
    "sklearn": "train",
    "onnx": "export",
    "matplotlib": "bench",
    "psutil": "bench",
}
"""Module -> the extra that brings it."""


class Failure(Exception):
    """A command did not do what it was asked; the message is for the user."""


class Commands(TyperGroup):
    """The command group that turns expected errors into a sentence and exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            sentence = explain(error)
            if sentence is None:
                raise
            complain(sentence)
            raise typer.Exit(1) from None


def explain(error: Exception) -> str | None:
    """The sentence for an expected error; None for a bug."""
    if isinstance(error, BrokenPipeError):  # `glimpse ... | head`: Typer ends quietly
        return None
    if isinstance(error, ModuleNotFoundError):
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            return None
        return f"{error.name} is not installed; get it with: pip install '.[{extra}]' -c constraints.txt"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    names = {f"{cls.__module__}:{cls.__name__}" for cls in type(error).__mro__}
    return str(error) if names & EXPECTED else None


def complain(sentence: str) -> None:
    """Prints one red sentence on stderr."""
    typer.secho(sentence, fg=typer.colors.RED, err=True)
