"""Registry of adapters: how the outputs of one kind of ONNX model become key-points and regions.

    annotator = open_annotator("bodypix", Path("bodypix.onnx"))
    (annotation,) = annotator.annotate([image])

The model is the user's: Glimpse ships none, and no model that Glimpse makes needs one at test time.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from glimpse.images import Image
from trainer.pose.errors import AnnotationError
from trainer.pose.keypoints import KeyPoints

UInt8 = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Annotation:
    """What one model says about one image, all at the image's size."""

    regions: UInt8 | None = None
    """``(H, W)``: 0 background, 1..K Glimpse's regions."""
    people: tuple[KeyPoints, ...] | None = None
    """Detections, the most confident first; empty when there is nobody, None when the model knows no pose."""
    labels: UInt8 | None = None
    """``(H, W)``: the parser's own labels, where merging them loses something that a method needs."""


class Settings(BaseModel):
    """How an adapter uses its model. An unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _split(cls, values: Any) -> Any:
        """Text for a setting of several values, as it comes from a command line, is cut at commas."""
        if not isinstance(values, Mapping):
            return values
        several = {name for name, field in cls.model_fields.items() if "tuple" in str(field.annotation)}
        return {
            name: value.split(",") if name in several and isinstance(value, str) else value
            for name, value in values.items()
        }


class Annotator(Protocol):
    """One model with its settings; `annotate` may be called from many threads."""

    settings: Settings

    def annotate(self, images: Sequence[Image]) -> list[Annotation]:
        """One annotation an image, in order; images are uint8 RGB ``(H, W, 3)`` of any sizes."""


@dataclass(frozen=True)
class AdapterSpec:
    """Where an adapter lives and what it writes."""

    target: str
    summary: str
    writes: tuple[str, ...]
    """Of ``regions``, ``keypoints`` and ``labels``."""


ADAPTERS: dict[str, AdapterSpec] = {
    "bodypix": AdapterSpec(
        "trainer.pose.models.bodypix:BodyPix", "BodyPix on MobileNet: 24 parts and 17 joints", ("regions", "keypoints")
    ),
    "heatmaps17": AdapterSpec(
        "trainer.pose.models.heatmaps17:HeatMaps17", "any top-down pose model: N x 17 x h x w", ("keypoints",)
    ),
    "lip20": AdapterSpec(
        "trainer.pose.models.lip20:LIP20Parser", "any LIP parser, such as SCHP: N x 20 x h x w", ("regions", "labels")
    ),
}


def open_annotator(adapter: str, model: Path, options: Mapping[str, object] | None = None) -> Annotator:
    """An adapter on a model file.

    Args:
        adapter: a key of `ADAPTERS`.
        model: an ONNX file.
        options: changes to the adapter's settings; strings are read as the setting's type.

    Raises:
        AnnotationError: an unknown adapter or setting, or a model that is not what the adapter expects.
    """
    if adapter not in ADAPTERS:
        raise AnnotationError(f"unknown adapter {adapter!r}; choose from {list(ADAPTERS)}")
    module, _, name = ADAPTERS[adapter].target.partition(":")
    kind = getattr(importlib.import_module(module), name)
    try:
        settings = kind.Settings.model_validate(dict(options or {}), strict=False)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise AnnotationError(
            f"settings of {adapter}: {problems}; it has {', '.join(kind.Settings.model_fields)}"
        ) from error
    return cast(Annotator, kind(model, settings))
