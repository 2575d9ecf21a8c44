"""``python -m tests.newcomer``: what docs/training.md tells a newcomer to type, typed for every method.

The four lines of "From nothing to a server" are read from the page itself, with the method's recipe in place of
`fed-lite` and `--smoke` behind `glimpse train`. Then people are indexed by the command line and one of them is looked
up, partly hidden. It takes a few minutes a method: CI runs what each line does, this runs the lines.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import cv2

from glimpse.cli.boundary import Failure
from glimpse.cli.subserver import subserver
from glimpse.people import PeopleGenerator

PAGE = Path(__file__).resolve().parents[1] / "docs" / "training.md"
SECTION = "## From nothing to a server"
WRITTEN = "fed-lite"
RECIPES = ("bot-lite", "afpb-lite", "pgfa-lite", "isp-lite", "fed-lite", "mspr-lite", "glimpse-imagenet")
PEOPLE = 8


def lines() -> list[str]:
    """The commands of the section, as they are printed."""
    section = PAGE.read_text().partition(SECTION)[2].partition("\n## ")[0]
    return re.findall(r"^    (glimpse .+)$", section, re.MULTILINE)


def typed(line: str, recipe: str) -> list[str]:
    """What is typed for another method, as a smoke run."""
    checkpoint = f"checkpoints/{recipe}-smoke/"
    words = shlex.split(line.replace(f"checkpoints/{WRITTEN}/", checkpoint).replace(WRITTEN, recipe))
    return [*words, "--smoke"] if words[1] == "train" else words


def run(words: Sequence[str], folder: Path, environment: dict[str, str]) -> str:
    """Runs one command to its end; its standard output. Raises CalledProcessError, having printed what it said."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "glimpse.cli", *words[1:]], cwd=folder, env=environment, capture_output=True, text=True
    )
    print(f"  {shlex.join(words)}: exit {done.returncode}, {time.monotonic() - started:.0f} s", flush=True)
    if done.returncode:
        print(done.stdout[-4000:], done.stderr[-4000:], sep="\n", flush=True)
        done.check_returncode()
    return done.stdout


def paint(folder: Path) -> Path:
    """A folder a person beneath ``folder/crops``, and a query of person 3."""
    generator = PeopleGenerator(seed=5, wardrobe="test")
    for identity in range(PEOPLE):
        (folder / "crops" / str(identity)).mkdir(parents=True)
        for camera in range(3):
            view = generator.view(identity, camera, 0).image
            cv2.imwrite(str(folder / "crops" / str(identity) / f"c{camera}.png"), view[..., ::-1])
    cv2.imwrite(str(folder / "query.png"), generator.view(3, 4, 1, occlusion=(0.3, 0.5)).image[..., ::-1])
    return folder / "query.png"


def follow(recipe: str, folder: Path) -> None:
    """From nothing to an answer, by one recipe."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    *before, serve = (typed(line, recipe) for line in lines())
    for words in before:
        run(words, folder, environment)
    paint(folder)
    model = folder / serve[serve.index("--model") + 1]
    with subserver(folder / "data", model, folder / "server.log") as address:
        asking = environment | {"GLIMPSE_SERVER": address}
        run(["glimpse", "index", "lobby", "crops", "--names", "folder"], folder, asking)
        answer = run(["glimpse", "search", "lobby", "query.png", "--explain", "--json"], folder, asking)
        if answer.count('"item_id"') < PEOPLE:
            raise RuntimeError(f"the search found too little: {answer}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.newcomer", description=__doc__)
    parser.add_argument("recipes", nargs="*", default=RECIPES, help=f"all of {', '.join(RECIPES)}")
    failed = []
    for recipe in parser.parse_args(arguments).recipes:
        print(recipe, flush=True)
        with tempfile.TemporaryDirectory(prefix="glimpse-newcomer-") as folder:
            try:
                follow(recipe, Path(folder))
            except (subprocess.SubprocessError, RuntimeError, Failure) as error:
                print(f"  failed: {error}", flush=True)
                failed.append(recipe)
    print(f"failed: {', '.join(failed)}" if failed else "every line of every recipe ended well", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
