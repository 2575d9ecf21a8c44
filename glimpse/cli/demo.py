"""`glimpse demo`: the whole of Glimpse in a minute, on generated people or on one's own crops."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from glimpse.cli.boundary import Failure


def demo(
    images: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Search in your own crops instead of generated people.")
    ] = None,
    identities: Annotated[int, typer.Option(min=20, max=250, help="Generated people; four cameras see each.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of the generated people.")] = 2026,
    model: Annotated[
        Path | None,
        typer.Option(metavar="BUNDLE", help="Default: the one trained on such images, drawings or photographs."),
    ] = None,
    save: Annotated[Path, typer.Option(metavar="FILE.png", help="Where the picture goes.")] = Path("demo-result.png"),
    keep: Annotated[bool, typer.Option("--keep", help="Keep the galleries, to be served again.")] = False,
) -> None:
    """Start a server, index people, find them again partly hidden, and tell what visibility weighting is worth.

    Exit code 1 when anything fails, or when weighting does not win on the generated people beyond noise.

    Example: glimpse demo --images ./crops
    """
    from rich.console import Console

    from glimpse.cli.subserver import subserver
    from glimpse.client import Client
    from server.settings import DEFAULT_MODEL, DRAWN_MODEL, default_model

    console = Console(highlight=False)
    with ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, _leave))
        folder = Path(tempfile.mkdtemp(prefix="glimpse-demo-"))
        if not keep:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        console.print("starting a server ...", style="dim")
        chosen = model or default_model(name=DRAWN_MODEL if images is None else DEFAULT_MODEL)
        address = stack.enter_context(subserver(folder / "galleries", chosen, folder / "server.log"))
        glimpse = stack.enter_context(Client(address))
        served = glimpse.model()
        console.print(f"serving {served.name} {served.version} ({served.provider}) on {address}")
        if images is None:
            from glimpse.cli.staged import show_generated

            won = show_generated(console, glimpse, identities, seed, save)
        else:
            from glimpse.cli.staged import show_folder

            show_folder(console, glimpse, images, save)
            won = True
        console.print(f"picture: {save}")
    console.print("the server stopped cleanly")
    if keep:
        console.print(f"the galleries are kept: glimpse serve --data {folder / 'galleries'}")
    if not won:
        raise Failure("weighting by visibility did not win beyond noise: with this model the demo shows nothing")


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)  # unwinds, so that the server is stopped and the folder removed
