"""Lets `import torchvision` (and so timm and Lightning) work beside a torch build that its wheel does not match.

torchvision's wheel on PyPI is a CUDA build. Beside CPU torch its operator library cannot be loaded, and the import
then dies with ``operator torchvision::nms does not exist`` (pytorch/vision#9085), taking timm and Lightning along.
Nothing in this project runs those operators, so it is enough that their schemas exist: `install` puts a finder on
``sys.meta_path`` that declares them just before torchvision is first imported. torch itself is not imported until
then. Where the real operator library loads, the finder leaves everything as it is.
"""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_libraries: list[object] = []  # a torch.library.Library takes its schemas along when it is collected


class _TorchvisionFinder:
    """Declares the missing schemas when torchvision is first asked for; it finds nothing itself."""

    def __init__(self) -> None:
        self.asked = False

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name == "torchvision" and not self.asked:
            self.asked = True
            spec = importlib.machinery.PathFinder.find_spec(name, path)
            if spec is not None and spec.origin is not None:
                _declare_missing(Path(spec.origin).parent)
        return None


def install() -> None:
    """Puts the finder in place once; does nothing when torchvision was imported already."""
    if "torchvision" in sys.modules or any(isinstance(finder, _TorchvisionFinder) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _TorchvisionFinder())


def _declare_missing(package: Path) -> None:
    import torch

    for library in sorted(package.glob("_C*")):
        try:
            torch.ops.load_library(str(library))
        except OSError:
            continue  # built for another torch or for CUDA: the schemas below stand in
    declared = torch.library.Library("torchvision", "FRAGMENT")
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            declared.define(schema)
    _libraries.append(declared)
