"""Where a model comes from: its training data, told so that anyone can check it is the same. Knows no torch."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import zlib
from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from trainer.data.training import Source

_PACKAGES = ("torch", "timm", "lightning", "numpy", "opencv-python-headless")


class SourceEntry(BaseModel):
    """One source of training images: its size, and the facts it states about itself, licences among them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    images: int
    identities: int
    cameras: int
    facts: tuple[str, ...] = ()

    @classmethod
    def of(cls, source: Source) -> SourceEntry:
        return cls(
            name=source.name,
            images=len(source),
            identities=len(np.unique(source.people)) * source.copies,
            cameras=len(np.unique(source.cameras)),
            facts=source.facts,
        )

    def describe(self) -> str:
        """One sentence."""
        counts = f"{self.name}: {self.images} images of {self.identities} identities by {self.cameras} cameras"
        return "; ".join((counts, *self.facts))


class Provenance(BaseModel):
    """What a checkpoint tells of the training behind it, besides recipe, seed and versions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: tuple[SourceEntry, ...]
    fingerprint: str
    """`fingerprint` of the sources."""
    facts: tuple[str, ...] = ()
    """What was held out for validation, which backbone weights it began with, and whose licences they carry."""
    steps: int = 0
    """Optimiser steps of the whole training so far; the checkpoint's own ``step`` may be an earlier, better one."""
    epochs: float = 0.0
    hours: float = 0.0
    devices: int = 1


def fingerprint(sources: Sequence[Source]) -> str:
    """SHA-256 over name, pixels (by their CRC-32) and labels of each source, in order: 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for source in sources:
        pixels = 0
        for image in source.images:
            pixels = zlib.crc32(np.ascontiguousarray(image).data, pixels)
        digest.update(json.dumps([source.name, list(source.images.shape), source.copies, pixels]).encode())
        for labels in (source.people, source.cameras):
            digest.update(np.ascontiguousarray(labels, "<i8").tobytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """What decides a result besides recipe, data and seed."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
