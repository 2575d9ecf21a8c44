"""The result of a benchmark: rows of figures with their goals and peers, and the machine they were measured on.

Every benchmark module has ``run(quick: bool) -> Report``; `glimpse bench NAME` prints it and writes it as JSON:
``{"bench", "machine", "versions", "rows": [{"metric", "value", "unit", "goal", "peer"}]}``.
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
import sys
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from glimpse.runtime.threads import available_cores

_GOAL = re.compile(r"(>=|<=|<|>) (\d+(?:\.\d+)?)")
_RECORDED = (
    "glimpse-reid",
    "numpy",
    "opencv-python-headless",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "faiss-cpu",
    "faiss-gpu-cuvs",
    "numba",
    "qdrant-edge-py",
    "milvus-lite",
    "pymilvus",
    "grpcio",
    "torch",
    "timm",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: a ratio measured side by side in this run, or a plain measurement."""

    metric: str
    """In words, as the acceptance checks name it: ``cmc_map_speedup_over_field``."""
    value: float
    unit: str
    """``ratio``, ``ms``, ``items/s``, ..."""
    goal: str | None = None
    """``">= 0.9"``, or None when the figure is only reported."""
    peer: str | None = None
    """What it was measured against."""

    def __post_init__(self) -> None:
        if self.goal is not None and not _GOAL.fullmatch(self.goal):
            raise ValueError(f"{self.metric}: goal must look like '>= 0.9', got {self.goal!r}")
        if not math.isfinite(self.value):
            raise ValueError(f"{self.metric}: value must be finite, got {self.value}")

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without one."""
        if self.goal is None:
            return None
        sign, number = self.goal.split()
        limit = float(number)
        return {
            ">=": self.value >= limit,
            "<=": self.value <= limit,
            ">": self.value > limit,
            "<": self.value < limit,
        }[sign]


@dataclass
class Report:
    """The rows of one benchmark run; the machine and versions are recorded when it is made."""

    bench: str
    rows: list[Row] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=lambda: machine())
    versions: dict[str, str] = field(default_factory=lambda: versions())

    def add(self, row: Row) -> None:
        self.rows.append(row)

    def __getitem__(self, metric: str) -> Row:
        """The row of a metric; KeyError lists the metrics there are."""
        for row in self.rows:
            if row.metric == metric:
                return row
        raise KeyError(f"no metric {metric!r} in this report; it has {[row.metric for row in self.rows]}")

    @property
    def missed(self) -> list[Row]:
        """Rows whose goal is not met."""
        return [row for row in self.rows if row.met is False]

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "bench": self.bench,
            "machine": self.machine,
            "versions": self.versions,
            "rows": [asdict(row) for row in self.rows],
        }

    def write_json(self, path: Path | str) -> None:
        """Writes the JSON form, indented."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=2) + "\n")

    def print(self, console: Console | None = None) -> None:
        """Prints the table and, below it, the machine."""
        console = console or Console()
        table = Table(title=self.bench, title_justify="left")
        for heading in ("metric", "value", "unit", "goal", "peer"):
            table.add_column(heading, justify="right" if heading == "value" else "left", no_wrap=heading == "metric")
        for row in self.rows:
            colour = {True: "green", False: "red", None: None}[row.met]
            goal = "" if row.goal is None else f"{row.goal} {'met' if row.met else 'MISSED'}"
            table.add_row(row.metric, _figure(row.value), row.unit, goal, row.peer or "", style=colour)
        console.print(table)
        facts = self.machine
        console.print(
            f"{facts['cpu']}, {facts['cores_available']} of {facts['cores']} cores, {facts['memory_gib']} GiB, "
            f"load {facts['load_average'][0]:.2f} at the start; Python {self.versions['python']}, "
            f"NumPy {self.versions['numpy']}",
            style="dim",
            highlight=False,
        )


def machine() -> dict[str, Any]:
    """What decides the figures: CPU model, cores (the host's and those granted), memory, load average, system."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "cores_available": available_cores(),
        "memory_gib": round(pages / 2**30, 1),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Python and those of the libraries that matter which are installed."""
    found = {"python": platform.python_version()}
    for name in _RECORDED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith(("model name", "Model")):
            return line.split(":", 1)[1].strip()
    return platform.processor() or sys.platform


def _figure(value: float) -> str:
    """Three significant digits, more for large numbers: 3.3e-09, 0.0123, 1.05, 75.5, 12,345."""
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) < 1e-3:
        return f"{value:.2g}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"
