"""Registry of methods: one file (or small folder) each, imported when it is asked for.

A method is a `torch.nn.Module` with

- ``Options``: the pydantic model of the recipe's ``options``,
- ``from_recipe(recipe, population)``: a class method; ``population`` says how many identities and cameras there are,
- ``schema``: the `PartSchema` of its features,
- ``forward(images)``: uint8 RGB ``(N, H, W, 3)`` to ``(vectors, visibility)``: the graph a bundle holds, so no
  data-dependent Python and nothing that looks at batch mates,
- ``losses(batch)``: a `trainer.data.batch.Batch` to named scalars, already weighted; their sum is minimised.

and, where it needs them,

- ``views``: names of the further versions of each image that its losses read; the recipe's ``occlusion.views`` must
  say how they are made,
- ``begin_epoch(context)``: called before every epoch, the first included: clusters, memories,
- ``after_step(batch)``: called after every optimiser step: memory updates,
- ``attention(images)``: ``(N, 1 + K, h, w)`` maps of the background and of each part, for pictures,
- ``pose = "given"``: its ``forward`` takes key-points ``(N, 17, 3)`` as a second argument; without them it sees the
  whole person everywhere.

State that training builds up (memories, momentum, clusters used by the losses) is registered as buffers, so that it
travels in checkpoints.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class MethodSpec:
    """Where a method lives, what it is, and whose."""

    target: str
    summary: str
    paper: str = ""

    def load(self) -> Any:
        """The method's class."""
        module, _, name = self.target.partition(":")
        return getattr(importlib.import_module(module), name)


METHODS: dict[str, MethodSpec] = {
    "bot": MethodSpec(
        "trainer.methods.bot:BoT", "the strong baseline: one feature, no parts", "Luo et al., CVPRW 2019"
    ),
    "afpb": MethodSpec(
        "trainer.methods.afpb:AFPB", "identity and occluded-or-whole side by side", "Zhuo et al., ICME 2018"
    ),
    "pgfa": MethodSpec(
        "trainer.methods.pgfa:PGFA", "key-point heat-maps guide a global feature and stripes", "Miao et al., ICCV 2019"
    ),
    "isp": MethodSpec("trainer.methods.isp:ISP", "parts found by clustering pixels", "Zhu et al., ECCV 2020"),
    "fed": MethodSpec(
        "trainer.methods.fed:FED", "gated stripes, mixed in training with other people's", "Wang et al., CVPR 2022"
    ),
    "mspr": MethodSpec(
        "trainer.methods.mspr:MSPR", "four versions of each image, masks of regions, parts recovered", "T-MSPR, 2025"
    ),
    "glimpse": MethodSpec("trainer.methods.glimpse:Glimpse", "part attention with learnt visibility"),
}


class Context(Protocol):
    """The training set as ``begin_epoch`` sees it."""

    epoch: int
    """From 0."""
    identities: NDArray[np.int64]
    """``(N,)``: who is on each row, from 0."""

    def images(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
        """Untouched images ``(n, H, W, 3)``: preprocessed, not augmented."""
        ...

    def set_pseudo_labels(self, rows: Sequence[int] | NDArray[np.int64], labels: NDArray[np.uint8]) -> None:
        """Labels ``(n, h, w)`` at any one resolution, which samples carry as ``pseudo`` from now on: augmented with
        the image, covered pixels 0, 255 for rows that were never set."""
        ...


def find_method(name: str) -> MethodSpec:
    """The spec called ``name``; ValueError lists the choices."""
    if name not in METHODS:
        raise ValueError(f"unknown method {name!r}; choose from {sorted(METHODS)}")
    return METHODS[name]
