"""What an occlusion simulator is, and the options that all of them share. Knows no torch."""

from __future__ import annotations

import hashlib
import typing
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from trainer.data.annotated import Annotated

UInt8 = NDArray[np.uint8]


class SimulatorError(ValueError):
    """A simulator that cannot be built or run; the message says what came and what is allowed."""


class Simulator(Protocol):
    """Hides or moves part of a person, and keeps image, labels, key-points and the covered mask aligned.

    Simulators are frozen: everything random comes from ``random``, so equal generators give equal samples.
    """

    def __call__(
        self, sample: Annotated, other: UInt8, random: np.random.Generator, progress: float = 1.0
    ) -> Annotated:
        """A changed sample of the same size.

        Args:
            sample: the image and all that is known of it; it is left as it is.
            other: another image, uint8 ``(h, w, 3)`` of any size, that occluders may be cut from.
            random: draws everything.
            progress: how much of the training is over, in [0, 1].
        """
        ...


def _ordered(pair: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= pair[0] <= pair[1]:
        raise ValueError("expected two numbers in order, neither below 0")
    return pair


def _share(pair: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= pair[0] <= pair[1] <= 1:
        raise ValueError("expected two shares in order within [0, 1]")
    return pair


def _positive(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] <= 0:
        raise ValueError("expected two numbers above 0")
    return _ordered(pair)


Span = typing.Annotated[tuple[float, float], AfterValidator(_ordered)]
"""From and to, neither below 0."""
Shares = typing.Annotated[tuple[float, float], AfterValidator(_share)]
"""From and to, within [0, 1]."""
Ratios = typing.Annotated[tuple[float, float], AfterValidator(_positive)]
"""From and to, above 0."""


class Options(BaseModel):
    """Options of every simulator; an unknown one is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    probability: float = Field(default=1.0, ge=0, le=1, description="how often it acts at all")
    growing: bool = Field(default=False, description="probability grows from 0, in step with the training")

    def happens(self, random: np.random.Generator, progress: float) -> bool:
        """Whether it acts this time; takes one draw whatever the answer."""
        return bool(random.random() < self.probability * (min(max(progress, 0.0), 1.0) if self.growing else 1.0))


def generator_for(seed: int, *names: str) -> np.random.Generator:
    """A generator that depends on a seed and some names alone: not on order, neighbours, process or platform."""
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest, "<u4").tolist()])
