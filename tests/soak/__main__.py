"""``make soak``: measures every row of the table and prints it; exit code 1 when one does not hold.

What is known so far is in ``build/soak/`` after every row (``table.md``, ``table.json``) and every minute of the steady
load (``steady.jsonl``), so that an interrupted hour still shows what was done.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.soak.table import ROOT, ROWS, SHORT, Effort, Row

FOLDER = ROOT / "build" / "soak"


@dataclass(frozen=True)
class Result:
    """A row as it was measured."""

    name: str
    test: str
    figure: str
    measured: str
    sound: bool
    seconds: float

    @property
    def cells(self) -> tuple[str, ...]:
        return self.test, self.figure, f"{self.measured} ({self.seconds:.0f} s)", "holds" if self.sound else "BROKEN"


def measure(row: Row, effort: Effort) -> Result:
    """Measures one row; whatever goes wrong with that breaks this row and no other."""
    started = time.monotonic()
    try:
        found = row.measure(effort)
        told, sound = found.told, found.sound
    except Exception as error:
        told, sound = f"could not be measured: {error!r}", False
    return Result(row.name, row.test, row.figure, told, sound, round(time.monotonic() - started, 1))


def write(folder: Path, results: Sequence[Result], left: Sequence[str]) -> None:
    """What is known so far, for people and for programs."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["| test | figure | measured | |", "| --- | --- | --- | --- |"]
    lines += ["| " + " | ".join(cell.replace("|", "/") for cell in result.cells) + " |" for result in results]
    if left:
        lines += ["", f"Not measured yet: {', '.join(left)}."]
    (folder / "table.md").write_text("\n".join(lines) + "\n")
    (folder / "table.json").write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")


def main(arguments: Sequence[str] | None = None, rows: Sequence[Row] = ROWS) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, help="length of the steady load (60)")
    parser.add_argument("--load", type=float, help="its share of the best rate (0.8)")
    parser.add_argument("--short", action="store_true", help="the short form of every row")
    parser.add_argument(
        "--only", action="append", choices=[row.name for row in rows], help="this row alone; may be given again"
    )
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the table and the samples (build/soak)")
    given = parser.parse_args(arguments)
    effort = replace(SHORT if given.short else Effort(), samples=given.out / "steady.jsonl")
    if given.minutes is not None:
        effort = replace(effort, minutes=given.minutes)
    if given.load is not None:
        effort = replace(effort, load=given.load)
    console = Console(highlight=False)
    wanted = [row for row in rows if not given.only or row.name in given.only]
    results: list[Result] = []
    for number, row in enumerate(wanted, 1):
        console.print(f"{row.name}: {row.test} ...", style="dim")
        results.append(measure(row, effort))
        write(given.out, results, [later.name for later in wanted[number:]])
        console.print(f"{row.name}: {results[-1].cells[-1]}: {results[-1].cells[-2]}", markup=False)
    table = Table("test", "figure", "measured", "", title="Trust")
    for result in results:
        table.add_row(*result.cells)
    console.print(table)
    return 0 if all(result.sound for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
