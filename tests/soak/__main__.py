"""``make soak``: measures every row of the table and prints it; exit code 1 when one does not hold."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace

from rich.console import Console
from rich.table import Table

from tests.soak.table import ROWS, SHORT, Effort


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, help="length of the steady load (60)")
    parser.add_argument("--load", type=float, help="its share of the best rate (0.8)")
    parser.add_argument("--short", action="store_true", help="the short form of every row")
    parser.add_argument("--only", help="rows whose name holds this")
    arguments = parser.parse_args()
    effort = SHORT if arguments.short else Effort()
    if arguments.minutes is not None:
        effort = replace(effort, minutes=arguments.minutes)
    if arguments.load is not None:
        effort = replace(effort, load=arguments.load)
    console = Console()
    table = Table("test", "figure", "measured", "", title="Trust")
    sound = True
    for row in ROWS:
        if arguments.only and arguments.only not in row.test:
            continue
        console.print(f"{row.test} ...", style="dim")
        started = time.monotonic()
        measured = row.measure(effort)
        took = f"{time.monotonic() - started:.0f} s"
        table.add_row(row.test, row.figure, f"{measured.told} ({took})", "holds" if measured.sound else "BROKEN")
        sound &= measured.sound
    console.print(table)
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
