"""What a gallery is told at its creation and keeps for life."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from glimpse.bundle import ModelIdentity
from glimpse.parts import Part, PartSchema
from server.errors import InvalidArgument

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class GallerySettings:
    """A gallery's name, its features and its rules.

    Args:
        name: letters, digits, '.', '_' and '-', at most 64, starting with a letter or digit.
        schema: the parts of its items, with the weights and prior of the distance.
        model: the model its features belong to; None for a gallery of features only.
        model_info: what else is to be told of the model (method, license, height, width); JSON values.
        keep_images: keep the encoded image of each item.
        retention_us: items are deleted this many microseconds after they were stored; None keeps them.
        require_purpose: refuse searches that state no purpose.
        latency_target_us: the search time that AUTO aims for; None means always exact.
        compact: keep only the two-bit codes in memory; exact searches read the others from the disk.
        created_at_us: microseconds since 1970 UTC.

    Raises:
        InvalidArgument: a bad name, or a time that is not above 0.
    """

    name: str
    schema: PartSchema
    model: ModelIdentity | None = None
    model_info: Mapping[str, Any] = field(default_factory=dict)
    keep_images: bool = False
    retention_us: int | None = None
    require_purpose: bool = False
    latency_target_us: int | None = None
    compact: bool = False
    created_at_us: int = 0

    def __post_init__(self) -> None:
        check_name(self.name, "gallery")
        for name, duration in (("retention", self.retention_us), ("latency_target", self.latency_target_us)):
            if duration is not None and not 0 < duration < 2**62:
                raise InvalidArgument(f"{name} must be longer than 0, or unset", field=name)

    def to_json(self) -> str:
        """The settings without the name, as the store keeps them."""
        return json.dumps(
            {
                "parts": [[part.name, part.dim, part.weight, part.always_visible] for part in self.schema.parts],
                "prior": self.schema.prior,
                "model": asdict(self.model) if self.model else None,
                "model_info": dict(self.model_info),
                "keep_images": self.keep_images,
                "retention_us": self.retention_us,
                "require_purpose": self.require_purpose,
                "latency_target_us": self.latency_target_us,
                "compact": self.compact,
                "created_at_us": self.created_at_us,
            }
        )

    @classmethod
    def from_json(cls, name: str, text: str) -> GallerySettings:
        """The inverse of `to_json`; KeyError, TypeError or ValueError when ``text`` is not its output."""
        fields = json.loads(text)
        parts = tuple(Part(*part) for part in fields.pop("parts"))
        model = fields.pop("model")
        return cls(
            name=name,
            schema=PartSchema(parts, fields.pop("prior")),
            model=ModelIdentity(**model) if model else None,
            **fields,
        )


def check_name(name: str, field: str) -> None:
    """InvalidArgument unless it may name a gallery or alias."""
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"{field} name {name[:80]!r}: expected letters, digits, '.', '_' and '-', at most 64, starting with a "
            "letter or digit",
            field=field,
        )
