"""The bundle: a self-contained, versioned model artefact.

A folder (or one ``.zip``) with ``manifest.json``, ``model.onnx`` and ``golden.npz``. The graph takes ``images``
uint8 ``(N, H, W, 3)`` RGB and gives ``vectors`` float32 ``(N, sum D)`` and ``visibility`` float32 ``(N, P)``, with a
dynamic N and the normalisation inside. Everything is hash-checked when it is opened.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from glimpse.parts import Part, PartFeatures, PartSchema
from glimpse.preprocessing import Preprocessing

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
GRAPH = "model.onnx"
GOLDEN = "golden.npz"
MAX_FILE_BYTES = 2 << 30
MAX_MANIFEST_BYTES = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")


class BundleError(ValueError):
    """A bundle that cannot be trusted or read; the message says which file and why."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PartEntry(_Strict):
    name: str
    dim: int
    weight: float = 1.0
    always_visible: bool = False


class SchemaEntry(_Strict):
    parts: tuple[PartEntry, ...]
    prior: float = 0.0

    @model_validator(mode="after")
    def _is_a_schema(self) -> SchemaEntry:
        self.to_schema()
        return self

    def to_schema(self) -> PartSchema:
        parts = tuple(Part(part.name, part.dim, part.weight, part.always_visible) for part in self.parts)
        return PartSchema(parts, self.prior)

    @classmethod
    def of(cls, schema: PartSchema) -> SchemaEntry:
        parts = tuple(
            PartEntry(name=p.name, dim=p.dim, weight=p.weight, always_visible=p.always_visible) for p in schema.parts
        )
        return cls(parts=parts, prior=schema.prior)


class GoldenTolerance(_Strict):
    """How far a runtime may be from the stored golden outputs."""

    min_cosine: float = Field(default=0.999, gt=0, le=1)
    max_visibility_difference: float = Field(default=0.02, ge=0, le=1)


class Provenance(_Strict):
    """Where the weights come from: enough to make them again."""

    command: str
    seed: int
    created_at: datetime
    versions: dict[str, str] = Field(default_factory=dict)
    training_data: str
    backbone: str
    notes: str = ""


class Manifest(_Strict):
    """``manifest.json``; an unknown key is an error."""

    format_version: Literal[1] = 1
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    version: str = Field(pattern=r"^\d+\.\d+\.\d+([-+][0-9A-Za-z.-]+)?$")
    method: str
    license: str
    preprocessing: Preprocessing
    # The alias keeps the manifest's word without shadowing pydantic's own attribute.
    part_schema: SchemaEntry = Field(alias="schema")
    opset: int = Field(ge=13)
    files: dict[str, str]
    golden: GoldenTolerance = GoldenTolerance()
    provenance: Provenance
    metrics: dict[str, float] = Field(default_factory=dict)
    """Measured figures, keyed by what was measured; `protocol` says how."""
    protocol: str = ""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @field_validator("files")
    @classmethod
    def _plain_hashed_names(cls, files: dict[str, str]) -> dict[str, str]:
        for name, digest in files.items():
            if not _is_plain_name(name):
                raise ValueError(f"file name {name!r}: expected a plain name inside the bundle")
            if not _SHA256.fullmatch(digest):
                raise ValueError(f"file {name!r}: expected a SHA-256 in hex, got {digest!r}")
        missing = {GRAPH, GOLDEN} - set(files)
        if missing:
            raise ValueError(f"files must list {sorted(missing)}")
        return files


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
    if source.is_dir():
        read: _FolderReader | _ZipReader = _FolderReader(source)
    elif source.is_file() and zipfile.is_zipfile(source):
        read = _ZipReader(source)
    elif source.exists():
        raise BundleError(f"{source}: not a bundle: expected a folder or a .zip with a {MANIFEST}")
    else:
        raise BundleError(f"{source}: no such bundle")
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
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and not _looks_like_a_bundle(target):
        raise BundleError(f"{target}: exists and is not a bundle; refusing to replace it")
    if target.suffix == ".zip":
        _write_zip(target, members)
    else:
        _write_folder(target, members)
    return open_bundle(target)


def golden_bytes(images: NDArray[np.uint8], features: PartFeatures) -> bytes:
    """``golden.npz`` as `Bundle.golden` reads it."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, images=images, vectors=features.vectors, visibility=features.visibility)
    return buffer.getvalue()


def utc_now() -> datetime:
    """The present, to the second, for `Provenance.created_at`."""
    return datetime.now(UTC).replace(microsecond=0)


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


def _is_plain_name(name: str) -> bool:
    return bool(name) and PurePosixPath(name).name == name and "\\" not in name and name not in {".", "..", MANIFEST}


def _looks_like_a_bundle(path: Path) -> bool:
    if path.is_dir():
        return (path / MANIFEST).is_file() or not any(path.iterdir())
    return zipfile.is_zipfile(path)


class _FolderReader:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: str, limit: int) -> bytes:
        path = self.folder / name
        if path.is_symlink() or not path.is_file():
            raise BundleError(f"{self.folder.name}: {name} is missing or not a plain file")
        if path.stat().st_size > limit:
            raise BundleError(f"{self.folder.name}: {name} is larger than {limit:,} bytes")
        return path.read_bytes()


class _ZipReader:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, name: str, limit: int) -> bytes:
        try:
            with zipfile.ZipFile(self.path) as archive:
                info = archive.getinfo(name)
                if info.file_size > limit:
                    raise BundleError(f"{self.path.name}: {name} is larger than {limit:,} bytes")
                return archive.read(info)
        except KeyError as error:
            raise BundleError(f"{self.path.name}: {name} is missing") from error
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError) as error:
            raise BundleError(f"{self.path.name}: {name} cannot be read: {error}") from error


def _write_zip(target: Path, members: Mapping[str, bytes]) -> None:
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, data in members.items():
                archive.writestr(member, data)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _write_folder(target: Path, members: Mapping[str, bytes]) -> None:
    staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        for member, data in members.items():
            (staging / member).write_bytes(data)
        staging.chmod(0o755)
        if target.exists():
            old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.old."))
            os.replace(target, old / "bundle")
            os.replace(staging, target)
            shutil.rmtree(old)
        else:
            os.replace(staging, target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
