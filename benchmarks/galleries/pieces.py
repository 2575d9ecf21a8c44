"""Pieces of the benchmark: what is measured once and kept, so that a long run can be interrupted and go on."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import machine, versions


@dataclass(frozen=True)
class Pieces:
    """A folder of results, one JSON file a piece."""

    folder: Path

    def measured(self, name: str, asked: dict[str, Any], work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The result of a piece: kept from an earlier run that was asked the same, else measured now and kept."""
        if (kept := self.kept(name)) is not None and kept["asked"] == asked:
            return dict(kept["result"])
        print(f"{name} ...", end=" ", flush=True)
        start = time.perf_counter()
        result = work()
        seconds = time.perf_counter() - start
        print(f"{seconds:.0f} s", flush=True)
        record = {"asked": asked, "machine": machine(), "versions": versions(), "commit": commit(), "seconds": seconds}
        self.folder.mkdir(parents=True, exist_ok=True)
        fresh = self.folder / f"{name}.json.new"
        fresh.write_text(json.dumps(record | {"result": result}, indent=1) + "\n")
        fresh.rename(self.folder / f"{name}.json")
        return result

    def forget(self, name: str) -> None:
        """Removes a piece, if it is there."""
        (self.folder / f"{name}.json").unlink(missing_ok=True)

    def kept(self, name: str) -> dict[str, Any] | None:
        """The record of a piece, or None."""
        path = self.folder / f"{name}.json"
        if not path.is_file():
            return None
        record: dict[str, Any] = json.loads(path.read_text())
        return record


def commit() -> str:
    """What was measured: the checkout's commit, or nothing where git cannot tell."""
    root = Path(__file__).resolve().parents[2]
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True, check=False
    )
    return told.stdout.strip()
