"""Wheels that overwrite each other's files, found before they do harm.

`onnxruntime` and `onnxruntime-gpu` both install the module ``onnxruntime``. pip installs both without a word, the last
one unpacked wins file by file, and removing one breaks the other (microsoft/onnxruntime #26996).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from importlib import metadata

FAMILIES: dict[str, str] = {"onnxruntime": "onnxruntime"}
"""Module name -> the wheel for the CPU. Any other wheel that installs the module is a GPU build."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Several installed wheels that claim one module."""

    module: str
    wheels: tuple[str, ...]
    keep: str
    """The wheel to keep: the GPU build, which was asked for on purpose."""

    @property
    def repair(self) -> str:
        """The commands that mend it."""
        return f"pip uninstall -y {' '.join(self.wheels)} && pip install --force-reinstall --no-deps {self.keep}"

    def __str__(self) -> str:
        return (
            f"{' and '.join(self.wheels)} are both installed and overwrite each other's module {self.module!r}. "
            f"Keep one: {self.repair}"
        )


class WheelConflict(RuntimeError):
    """Raised at start when wheels conflict; the message names them and the repair."""


def find_conflicts(installed: Collection[str] | None = None) -> list[Conflict]:
    """The conflicts among ``installed`` distribution names (default: those of this environment)."""
    if installed is None:
        installed = [name for item in metadata.distributions() if (name := item.metadata["Name"])]
    names = sorted({name.lower().replace("_", "-") for name in installed})
    conflicts = []
    for module, cpu_wheel in FAMILIES.items():
        wheels = tuple(name for name in names if _installs(module, name))
        if len(wheels) > 1:
            builds = [name for name in wheels if name != cpu_wheel]
            conflicts.append(Conflict(module, wheels, builds[0] if builds else cpu_wheel))
    return conflicts


def check_wheels(installed: Collection[str] | None = None) -> None:
    """Raises WheelConflict, with the exact repair commands, when wheels overwrite each other."""
    conflicts = find_conflicts(installed)
    if conflicts:
        raise WheelConflict("\n".join(str(conflict) for conflict in conflicts))


def _installs(module: str, wheel: str) -> bool:
    # onnxruntime-gpu, -openvino, -directml ... but not onnxruntime-extensions or the plug-in providers (-ep-).
    return wheel == module or wheel in {f"{module}-{build}" for build in _ORT_BUILDS}


_ORT_BUILDS = ("gpu", "openvino", "directml", "rocm", "migraphx", "qnn", "training", "silicon", "cann")
