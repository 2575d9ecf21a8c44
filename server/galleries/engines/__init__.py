"""Engines: how a snapshot is ranked. Adding one is one file and one line in `ENGINES`."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from server.errors import FailedPrecondition
from server.galleries.background import Background
from server.galleries.engines.base import Engine


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Where an engine is, and what it is for."""

    target: str
    """``module:class``; the module is imported when the engine is first opened."""
    description: str


ENGINES: dict[str, EngineSpec] = {
    "exact": EngineSpec("server.galleries.engines.exact:ExactEngine", "scores every item"),
    "fast": EngineSpec("server.galleries.engines.fast:FastEngine", "chooses by two-bit codes, exactly re-ranked"),
}


def compile_kernels() -> None:
    """Makes the machine code, or loads what an earlier start kept, so that no search and no write waits for it."""
    for name in ("coding", "scan", "rescore", "sketch"):
        import_module(f"server.galleries.engines.kernels.{name}")


def open_engine(name: str, background: Background, threads: int = 1) -> Engine:
    """A new engine for one gallery; its slow work runs on ``background``, and ``threads`` share one search.

    Raises:
        ValueError: an unknown name; the message lists the choices.
        FailedPrecondition: a library of the engine is not installed.
    """
    spec = ENGINES.get(name)
    if spec is None:
        raise ValueError(f"unknown engine {name!r}: expected one of {sorted(ENGINES)}")
    module, _, attribute = spec.target.partition(":")
    try:
        engine: Engine = getattr(import_module(module), attribute)(background, threads)
    except ModuleNotFoundError as error:
        raise FailedPrecondition(
            f"the engine {name!r} needs the Python package {error.name!r}, which this server lacks"
        ) from error
    return engine
