"""``manifest.json``: what a bundle says of itself. An unknown key is an error."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from glimpse.calibration import Calibration
from glimpse.parts import Part, PartSchema
from glimpse.precision import DEFAULTS, FILES, GRAPH, GoldenTolerance, Precision, PrecisionEntry
from glimpse.preprocessing import Preprocessing

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
GOLDEN = "golden.npz"
_SHA256 = re.compile(r"[0-9a-f]{64}")


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
    """Of the float32 graph; the other precisions have their own."""
    precisions: dict[Precision, PrecisionEntry] = Field(default_factory=dict)
    """What each precision may cost, kept in float and was measured to cost; a graph of its own needs an entry."""
    default_precision: Precision = "float32"
    """What ``--precision auto`` runs."""
    provenance: Provenance
    metrics: dict[str, float] = Field(default_factory=dict)
    """Measured figures, keyed by what was measured; `protocol` says how."""
    protocol: str = ""
    calibration: Calibration | None = None
    """From distance to the probability of a match; None until `glimpse calibrate` has made one."""

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

    @model_validator(mode="after")
    def _precisions_have_graphs(self) -> Manifest:
        for precision in self.precisions:
            if FILES[precision] not in self.files:
                raise ValueError(f"precisions names {precision}, but files does not list {FILES[precision]!r}")
        if self.default_precision not in self.graphs:
            raise ValueError(
                f"default_precision is {self.default_precision}, but the bundle has {', '.join(self.graphs)}"
            )
        return self

    @model_validator(mode="after")
    def _calibration_is_of_this_model(self) -> Manifest:
        if self.calibration is not None:
            self.calibration.check_model(self.part_schema.to_schema(), self.files[GRAPH])
        return self

    @property
    def graphs(self) -> tuple[Precision, ...]:
        """The precisions that have a graph of their own here, float32 first."""
        return tuple(precision for precision in ("float32", "float16", "int8") if FILES[precision] in self.files)

    def entry(self, precision: Precision) -> PrecisionEntry:
        """Tolerance, limits and figures of a precision: the manifest's, else the defaults."""
        entry = self.precisions.get(precision, DEFAULTS[precision])
        return entry.model_copy(update={"golden": self.golden}) if precision == "float32" else entry


def utc_now() -> datetime:
    """The present, to the second, for `Provenance.created_at`."""
    return datetime.now(UTC).replace(microsecond=0)


def _is_plain_name(name: str) -> bool:
    return bool(name) and PurePosixPath(name).name == name and "\\" not in name and name not in {".", "..", MANIFEST}
