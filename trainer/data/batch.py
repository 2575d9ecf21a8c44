"""What a training step sees: N samples, and further versions of the same images where a method asks for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Version:
    """One version of one training image: as augmented, or as a simulator changed it."""

    image: NDArray[np.uint8]
    """``(H, W, 3)`` RGB."""
    regions: NDArray[np.uint8]
    """``(H, W)``: the visible pixels of each body region, 1..K; 0 for everything else; 255 where nobody knows."""
    visibility: NDArray[np.float32]
    """``(1 + K,)``: the visible share of the whole person, then of each region. Where the truth is not known
    (``certain`` false), the share of the picture that no simulator covered."""
    certain: NDArray[np.bool_]
    """``(1 + K,)``: whether that visibility is known."""
    covered: NDArray[np.bool_]
    """``(H, W)``: pixels that a simulator drew an occluder over."""
    points: NDArray[np.float32]
    """``(17, 3)`` COCO key-points: x, y in pixels of this image and a confidence, 0 for what cannot be seen."""
    pseudo: NDArray[np.uint8]
    """``(H, W)``: the method's own labels (ISP's clusters), 255 where there are none."""


@dataclass(frozen=True)
class Sample:
    """One training image with its labels and versions."""

    row: int
    """In the training set."""
    identity: int
    """From 0 over the training identities."""
    camera: int
    """From 0 over the training cameras."""
    base: Version
    views: Mapping[str, Version] = field(default_factory=dict)
    """Versions by name, those the recipe's ``occlusion.views`` lists."""
    known: bool = True
    """False for a recoloured person: a person of its own within the batch, but no training identity."""
    teacher: NDArray[np.float32] | None = None
    """``(T,)``: what the teacher says of the untouched image; None without a teacher."""


@dataclass
class View:
    """One version of N images, as tensors."""

    images: Tensor
    """uint8 ``(N, H, W, 3)``."""
    regions: Tensor
    """uint8 ``(N, H, W)``, 255 unknown."""
    visibility: Tensor
    """float32 ``(N, 1 + K)``."""
    certain: Tensor
    """bool ``(N, 1 + K)``."""
    covered: Tensor
    """bool ``(N, H, W)``."""
    points: Tensor
    """float32 ``(N, 17, 3)``."""
    pseudo: Tensor
    """uint8 ``(N, H, W)``, 255 unknown."""

    @classmethod
    def of(cls, versions: Sequence[Version]) -> View:
        def stacked(name: str) -> Tensor:
            return torch.from_numpy(np.stack([getattr(version, name) for version in versions]))

        return cls(stacked("image"), *(stacked(f.name) for f in fields(Version) if f.name != "image"))

    def to(self, device: torch.device | str) -> View:
        """Moved to a device."""
        return View(*(tensor.to(device) for tensor in vars(self).values()))


@dataclass
class Batch:
    """N samples as tensors. ``images``, ``regions`` ... are those of ``base``."""

    base: View
    identity: Tensor
    """int64 ``(N,)``, counted from 0 over the training identities."""
    camera: Tensor
    """int64 ``(N,)``, counted from 0 over the training cameras."""
    rows: Tensor
    """int64 ``(N,)``, rows of the training set."""
    known: Tensor
    """bool ``(N,)``: whether ``identity`` may be classified."""
    views: dict[str, View] = field(default_factory=dict)
    """Further versions of the same N images, by name."""
    teacher: Tensor | None = None
    """float32 ``(N, T)``, NaN rows where the teacher says nothing; None without a teacher."""

    @property
    def images(self) -> Tensor:
        """uint8 ``(N, H, W, 3)``."""
        return self.base.images

    @property
    def regions(self) -> Tensor:
        """uint8 ``(N, H, W)``."""
        return self.base.regions

    @property
    def visibility(self) -> Tensor:
        """float32 ``(N, 1 + K)``."""
        return self.base.visibility

    @property
    def certain(self) -> Tensor:
        """bool ``(N, 1 + K)``."""
        return self.base.certain

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Batch:
        teachers = [sample.teacher for sample in samples]
        return cls(
            View.of([sample.base for sample in samples]),
            torch.tensor([sample.identity for sample in samples]),
            torch.tensor([sample.camera for sample in samples]),
            torch.tensor([sample.row for sample in samples]),
            torch.tensor([sample.known for sample in samples]),
            {name: View.of([sample.views[name] for sample in samples]) for name in samples[0].views},
            None if teachers[0] is None else torch.from_numpy(np.stack([t for t in teachers if t is not None])),
        )

    def to(self, device: torch.device | str) -> Batch:
        """Moved to a device; Lightning calls it."""
        return Batch(
            self.base.to(device),
            self.identity.to(device),
            self.camera.to(device),
            self.rows.to(device),
            self.known.to(device),
            {name: view.to(device) for name, view in self.views.items()},
            None if self.teacher is None else self.teacher.to(device),
        )
