"""The bundle: a self-contained, versioned model artefact.

A folder (or one ``.zip``) with ``manifest.json``, ``model.onnx`` and ``golden.npz``; optionally ``model.fp16.onnx``
and ``model.int8.onnx`` (`glimpse.precision`) and ``gate.npz`` (`glimpse.runtime.gate`). A graph takes ``images``
uint8 ``(N, H, W, 3)`` RGB and gives ``vectors`` float32 ``(N, sum D)`` and ``visibility`` float32 ``(N, P)``, with a
dynamic N and the normalisation inside. Everything is hash-checked when it is opened.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from glimpse.bundle_files import BundleError, reader_of, write_files
from glimpse.manifest import (
    FORMAT_VERSION,
    GOLDEN,
    MANIFEST,
    Manifest,
    PartEntry,
    Provenance,
    SchemaEntry,
    utc_now,
)
from glimpse.parts import PartFeatures, PartSchema
from glimpse.precision import FILES, GRAPH, GoldenTolerance, Precision
from glimpse.preprocessing import Preprocessing

__all__ = [
    "FORMAT_VERSION",
    "GOLDEN",
    "GRAPH",
    "MANIFEST",
    "Bundle",
    "BundleError",
    "Golden",
    "GoldenTolerance",
    "Manifest",
    "ModelIdentity",
    "PartEntry",
    "Provenance",
    "SchemaEntry",
    "golden_bytes",
    "open_bundle",
    "utc_now",
    "write_bundle",
]

MAX_FILE_BYTES = 2 << 30
MAX_MANIFEST_BYTES = 1 << 20


@dataclass(frozen=True)
class Golden:
    """Input images and the features they must give: the first thing a runtime computes."""

    images: NDArray[np.uint8]
    """uint8 ``(N, H, W, 3)`` RGB."""
    features: PartFeatures


@dataclass(frozen=True)
class ModelIdentity:
    """What a gallery is bound to."""

    name: str
    version: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.name} {self.version} (sha {self.sha256[:8]})"


@dataclass(frozen=True)
class Bundle:
    """An opened, hash-checked bundle. Make one with `open_bundle`."""

    manifest: Manifest
    source: Path
    contents: Mapping[str, bytes]

    @property
    def schema(self) -> PartSchema:
        return self.manifest.part_schema.to_schema()

    @property
    def preprocessing(self) -> Preprocessing:
        return self.manifest.preprocessing

    @property
    def identity(self) -> ModelIdentity:
        """Name, version and the SHA-256 of the float32 graph."""
        return ModelIdentity(self.manifest.name, self.manifest.version, self.manifest.files[GRAPH])

    @property
    def graph(self) -> bytes:
        """The ONNX graph, serialised."""
        return self.contents[GRAPH]

    def graph_of(self, precision: Precision) -> bytes:
        """The ONNX graph of a precision, serialised; BundleError names those there are."""
        try:
            return self.contents[FILES[precision]]
        except KeyError:
            raise BundleError(
                f"{self.identity} has no {precision} graph, only {', '.join(self.manifest.graphs)}; make one with "
                f"glimpse export --precision {precision}"
            ) from None

    def golden(self) -> Golden:
        """The golden samples; BundleError when they do not fit the manifest."""
        try:
            with np.load(io.BytesIO(self.contents[GOLDEN]), allow_pickle=False) as arrays:
                images, vectors, visibility = arrays["images"], arrays["vectors"], arrays["visibility"]
        except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise BundleError(f"{self.source.name}: {GOLDEN} cannot be read: {error}") from error
        size = (self.preprocessing.height, self.preprocessing.width, 3)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != size or len(images) == 0:
            raise BundleError(
                f"{self.source.name}: golden images must be uint8 (N, {size[0]}, {size[1]}, 3), "
                f"got {images.dtype} {images.shape}"
            )
        try:
            features = PartFeatures(vectors, visibility, self.schema)
        except ValueError as error:
            raise BundleError(f"{self.source.name}: golden features are wrong: {error}") from error
        if len(features) != len(images):
            raise BundleError(f"{self.source.name}: {len(images)} golden images but {len(features)} feature rows")
        return Golden(images, features)


def open_bundle(path: Path | str) -> Bundle:
    """Reads a bundle folder or ``.zip``, checks the manifest and every hash.

    Raises:
        BundleError: missing, truncated, tampered, path-traversing, of a newer format, or with unknown keys.
    """
    source = Path(path)
    read = reader_of(source)
    manifest = _parse_manifest(source, read(MANIFEST, MAX_MANIFEST_BYTES))
    contents = {}
    for name, expected in manifest.files.items():
        data = read(name, MAX_FILE_BYTES)
        actual = hashlib.sha256(data).hexdigest()
        if actual != expected:
            raise BundleError(
                f"{source.name}: {name} has SHA-256 {actual[:12]}..., the manifest says {expected[:12]}...: "
                "the file was changed or truncated"
            )
        contents[name] = data
    return Bundle(manifest, source, contents)


def write_bundle(path: Path | str, manifest: Mapping[str, Any], contents: Mapping[str, bytes]) -> Bundle:
    """Writes a bundle atomically (folder, or zip when ``path`` ends in ``.zip``) and opens it again.

    ``manifest`` holds every field of `Manifest` but ``files``, which is made from ``contents``. An existing bundle
    at ``path`` is replaced; anything else there is refused with BundleError.
    """
    target = Path(path)
    files = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    try:
        checked = Manifest.model_validate({**manifest, "files": files})
    except ValidationError as error:
        raise BundleError(f"{target.name}: {_first_problem(error)}") from error
    text = json.dumps(checked.model_dump(mode="json", by_alias=True), indent=2) + "\n"
    members = {MANIFEST: text.encode(), **contents}
    write_files(target, members)
    return open_bundle(target)


def golden_bytes(images: NDArray[np.uint8], features: PartFeatures) -> bytes:
    """``golden.npz`` as `Bundle.golden` reads it."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=images, vectors=features.vectors, visibility=features.visibility)
    return buffer.getvalue()


def _parse_manifest(source: Path, data: bytes) -> Manifest:
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{source.name}: {MANIFEST} is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise BundleError(f"{source.name}: {MANIFEST} must be an object")
    version = raw.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise BundleError(
            f"{source.name}: bundle format {version} is newer than this Glimpse reads "
            f"({FORMAT_VERSION}); upgrade Glimpse"
        )
    try:
        return Manifest.model_validate(raw)
    except ValidationError as error:
        raise BundleError(f"{source.name}: {MANIFEST}: {_first_problem(error)}") from error


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(step) for step in first["loc"]) or "manifest"
    return f"{where}: {first['msg']}"
