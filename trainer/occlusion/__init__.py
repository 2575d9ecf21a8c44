"""Occlusion simulators: one file each, found by name, all on `trainer.data.annotated.Annotated`. Knows no torch.

    hide = build_simulator("background", {"area": [0.1, 0.3]})
    hidden = hide(sample, other_image, numpy.random.default_rng(0))

`coverage` has FED's labels of occluded stripes, `protocol` the fixed recipe for occluded queries, `folder` what
`glimpse occlude` does.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from pydantic import ValidationError

from trainer.occlusion.occluders import OccluderLibrary
from trainer.occlusion.simulator import Options, Simulator, SimulatorError, generator_for

__all__ = [
    "SIMULATORS",
    "OccluderLibrary",
    "Options",
    "Simulator",
    "SimulatorError",
    "SimulatorSpec",
    "build_simulator",
    "find_simulator",
    "generator_for",
]


@dataclass(frozen=True)
class SimulatorSpec:
    """Where a simulator lives, whose it is and what it does."""

    target: str
    paper: str
    summary: str
    needs_other: bool = True
    """Whether it looks at the other image it is given."""
    needs_library: bool = False

    def load(self) -> Any:
        """The simulator's class; its options are its ``Options``."""
        module, _, name = self.target.partition(":")
        return getattr(importlib.import_module(module), name)


SIMULATORS: dict[str, SimulatorSpec] = {
    "background": SimulatorSpec(
        "trainer.occlusion.background:BackgroundPatch",
        "AFPB (Zhuo et al., ICME 2018)",
        "a patch of background from the margins of another image, anywhere",
    ),
    "library": SimulatorSpec(
        "trainer.occlusion.library:LibraryPaste",
        "FED (Wang et al., CVPR 2022)",
        "an occluder of a library over a whole side, from one of the corners",
        needs_other=False,
        needs_library=True,
    ),
    "amplify": SimulatorSpec(
        "trainer.occlusion.amplify:Amplify", "T-MSPR (2025)", "a random part of the image, magnified", needs_other=False
    ),
    "cover": SimulatorSpec(
        "trainer.occlusion.cover:Cover", "T-MSPR (2025)", "a crop of another image over a whole side, then noise"
    ),
    "shrink": SimulatorSpec(
        "trainer.occlusion.shrink:Shrink", "T-MSPR (2025)", "the image made smaller in its middle", needs_other=False
    ),
    "person": SimulatorSpec(
        "trainer.occlusion.person:OtherPerson",
        "own; non-target pedestrians as in FED (Wang et al., CVPR 2022)",
        "somebody else walks in front",
        needs_other=False,
    ),
    "erasing": SimulatorSpec(
        "trainer.occlusion.erasing:RandomErasing",
        "Zhong et al., AAAI 2020",
        "a random box of one colour or noise",
        needs_other=False,
    ),
    "strip": SimulatorSpec(
        "trainer.occlusion.strip:Strip", "own; the occluded protocols", "one side behind background of another image"
    ),
    "box": SimulatorSpec(
        "trainer.occlusion.box:SideOrBox", "own", "a side, box or ellipse behind a piece of another image or a colour"
    ),
}


def find_simulator(name: str) -> SimulatorSpec:
    """The spec called ``name``; SimulatorError lists the choices."""
    if name not in SIMULATORS:
        raise SimulatorError(f"unknown simulator {name!r}; choose from {sorted(SIMULATORS)}")
    return SIMULATORS[name]


def build_simulator(name: str, options: Mapping[str, Any], library: OccluderLibrary | None = None) -> Simulator:
    """The simulator called ``name``.

    Args:
        name: of `SIMULATORS`.
        options: checked by the simulator's own model.
        library: what `library` pastes; left out: generated occluders.

    Raises:
        SimulatorError: an unknown name or option, or a value that is not allowed.
    """
    spec = find_simulator(name)
    kind = spec.load()
    try:
        checked = kind.Options.model_validate(dict(options))
    except ValidationError as error:
        raise SimulatorError(_sentence(name, kind.Options, error)) from error
    built = kind(checked, library or OccluderLibrary.open()) if spec.needs_library else kind(checked)
    return cast(Simulator, built)


def _sentence(name: str, options: type[Options], error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(step) for step in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"simulator {name!r} has no option {where!r}; its options are {sorted(options.model_fields)}"
    return f"simulator {name!r}, option {where!r}: {first['msg'].removeprefix('Value error, ')}, got {first['input']!r}"
