"""All methods under one protocol: same backbone, data and budget, several seeds, occluders that no training showed.

The protocol was frozen before the first run of its table. Every method is trained from its ``-lite`` recipe with the
values of `PROTOCOL` in place of the recipe's own: the same ImageNet backbone and frozen stages, the same generated
people, the same image size, and the same number of steps over the same number of source images (T-MSPR makes four
versions of each image and FED and AFPB two, as their papers do, so a step of theirs costs more). Test:
`generated-occluded` and `generated`, 300 people in clothes and behind occluders that no training shows; every figure
once by visibility and once with every visibility set to 1.

    glimpse bench methods                                     three seeds of every method on generated people
    python -m benchmarks.methods --data market1501:PATH --test market1501:PATH --test market1501-occluded:PATH ...

A finished run is kept in ``--runs`` and not repeated, so that an interrupted table can go on.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.report import Report, Row
from trainer.data import find_listing
from trainer.data.listing import Listing
from trainer.evaluation import LabelledFeatures, extract, extract_listing, rank
from trainer.recipe import Recipe, load_recipe

METHODS = ("bot", "afpb", "pgfa", "isp", "fed", "mspr", "glimpse")
# Two-sided 95 % quantiles of Student's t by degrees of freedom.
_T95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571}


@dataclass(frozen=True)
class Protocol:
    """What all methods share."""

    data: tuple[str, ...] = ("generated",)
    tests: tuple[str, ...] = ("generated-occluded", "generated")
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 160
    people: int = 16
    views: int = 4
    height: int = 128
    width: int = 64
    frozen_stages: int = 3
    identities: int = 1000
    data_views: int = 6
    validation_identities: int = 40
    queries: int | None = None
    """At most so many queries of each test, evenly spread."""
    settings: tuple[str, ...] = field(default=())
    """Further overrides of every recipe."""

    def recipe(self, method: str) -> Recipe:
        """The method's lite recipe under this protocol."""
        name = "glimpse-imagenet" if method == "glimpse" else f"{method}-lite"
        return load_recipe(
            name,
            [
                f"backbone.frozen_stages={self.frozen_stages}",
                f"preprocessing.height={self.height}",
                f"preprocessing.width={self.width}",
                f"data.identities={self.identities}",
                f"data.views={self.data_views}",
                f"data.validation_identities={self.validation_identities}",
                f"schedule.steps={self.steps}",
                "schedule.epochs=null",
                f"schedule.people={self.people}",
                f"schedule.views={self.views}",
                "schedule.small=0",
                f"schedule.validate_every={self.steps}",
                *self.settings,
            ],
        )


PROTOCOL = Protocol()
QUICK = Protocol(seeds=(0,), steps=8, people=4, identities=24, data_views=4, validation_identities=4, queries=20)


def run(quick: bool) -> Report:
    """`glimpse bench methods`."""
    return measure(
        QUICK if quick else PROTOCOL,
        METHODS,
        Path("checkpoints/bench-methods-quick" if quick else "checkpoints/bench-methods"),
    )


def measure(protocol: Protocol, methods: Sequence[str], runs: Path) -> Report:
    """Trains and tests whatever is not in ``runs`` yet, prints the table, and gives its figures."""
    results: dict[str, list[dict[str, Any]]] = {method: [] for method in methods}
    # Seed by seed, so that an interrupted table has every method.
    for seed in protocol.seeds:
        for method in methods:
            results[method].append(_one(protocol, method, seed, runs / f"{method}-{seed}"))
    report = Report("methods")
    for method, found in results.items():
        for key in found[0]["figures"]:
            values = [result["figures"][key] for result in found]
            report.add(Row(f"{method}_{key}", statistics.fmean(values), f"% (+-{interval(values):.1f})"))
        report.add(Row(f"{method}_minutes", statistics.fmean(r["minutes"] for r in found), "min a run"))
    show(protocol, results)
    return report


def interval(values: Sequence[float]) -> float:
    """Half the width of the 95 % confidence interval of the mean; 0 for a single value."""
    if len(values) < 2:
        return 0.0
    return _T95.get(len(values) - 1, 1.96) * statistics.stdev(values) / math.sqrt(len(values))


def show(protocol: Protocol, results: dict[str, list[dict[str, Any]]], console: Console | None = None) -> None:
    """Prints Rank-1 / mAP of every method and test, mean and confidence interval over the seeds."""
    console = console or Console(width=160)
    table = Table(
        title=f"Rank-1 / mAP in %, mean +- 95 % interval of {len(protocol.seeds)} seeds", title_justify="left"
    )
    table.add_column("method")
    for test in protocol.tests:
        name = test.partition(":")[0]
        table.add_column(f"{name}\nby visibility")
        table.add_column(f"{name}\nall visible")
    table.add_column("min a run")
    for method, found in results.items():
        cells = []
        for test in protocol.tests:
            name = test.partition(":")[0]
            for weighting in ("weighted", "unweighted"):
                pair = []
                for measure_name in ("rank1", "mAP"):
                    values = [result["figures"][f"{measure_name}_{name}_{weighting}"] for result in found]
                    pair.append(f"{statistics.fmean(values):.1f}+-{interval(values):.1f}")
                cells.append(" / ".join(pair))
        table.add_row(method, *cells, f"{statistics.fmean(r['minutes'] for r in found):.1f}")
    console.print(table)
    console.print(json.dumps(asdict(protocol)), style="dim")


def _one(protocol: Protocol, method: str, seed: int, folder: Path) -> dict[str, Any]:
    import time

    from trainer.checkpoint import load_checkpoint
    from trainer.loop import features_of, train

    done = folder / "result.json"
    recipe = protocol.recipe(method)
    asked = {
        "recipe": recipe.model_dump(mode="json"),
        "protocol": json.loads(json.dumps(asdict(protocol))) | {"seeds": None},
    }
    if done.is_file():
        result: dict[str, Any] = json.loads(done.read_text())
        if result["asked"] == asked:
            return result
    began = time.monotonic()
    checkpoint = train(
        recipe, folder, data=protocol.data, seed=seed, progress=False, command=f"bench methods, {method}"
    )
    minutes = (time.monotonic() - began) / 60
    built = load_checkpoint(checkpoint).build()
    figures: dict[str, float] = {}
    galleries: dict[tuple[Path, ...] | None, LabelledFeatures] = {}
    for test in protocol.tests:
        listing = _listing(test, protocol.queries)
        if (gallery := galleries.get(listing.gallery.paths)) is None:
            extraction = extract_listing(listing, recipe.preprocessing, lambda images: features_of(built, images))
            query, gallery = extraction.query, extraction.gallery
            if listing.gallery.paths is not None:  # Market-1501 and its occluded queries share one
                galleries[listing.gallery.paths] = gallery
        else:
            query = extract(listing.query, recipe.preprocessing, lambda images: features_of(built, images))
        for weighting in ("weighted", "unweighted"):
            metrics = rank(query, gallery, weighted=weighting == "weighted")
            figures[f"rank1_{listing.name}_{weighting}"] = 100 * metrics.rank1
            figures[f"mAP_{listing.name}_{weighting}"] = 100 * metrics.mAP
    result = {"asked": asked, "figures": figures, "minutes": minutes, "seed": seed}
    done.write_text(json.dumps(result, indent=2) + "\n")
    print(method, seed, {name: round(value, 1) for name, value in figures.items()}, f"{minutes:.1f} min", flush=True)
    return result


@lru_cache(maxsize=4)
def _listing(test: str, queries: int | None) -> Listing:
    """A test set whose generated images are drawn only once."""
    listing = find_listing(test).limited(queries)
    if not test.startswith("generated"):
        return listing
    from dataclasses import replace

    query = [listing.query.load(row) for row in range(len(listing.query))]
    gallery = [listing.gallery.load(row) for row in range(len(listing.gallery))]
    return replace(
        listing,
        query=replace(listing.query, load=query.__getitem__),
        gallery=replace(listing.gallery, load=gallery.__getitem__),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", action="append", default=[], help="train on; default generated")
    parser.add_argument("--test", action="append", default=[], help="test on; default both generated sets")
    parser.add_argument("--method", action="append", choices=METHODS, default=[])
    parser.add_argument("--seeds", type=int, default=len(PROTOCOL.seeds))
    parser.add_argument("--steps", type=int, default=PROTOCOL.steps)
    parser.add_argument("--queries", type=int)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for every recipe")
    parser.add_argument("--runs", type=Path, default=Path("checkpoints/bench-methods"))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    chosen = Protocol(
        data=tuple(given.data) or PROTOCOL.data,
        tests=tuple(given.test) or PROTOCOL.tests,
        seeds=tuple(int(seed) for seed in np.arange(given.seeds)),
        steps=given.steps,
        queries=given.queries,
        settings=tuple(given.set),
    )
    outcome = measure(chosen, given.method or METHODS, given.runs)
    if given.json:
        outcome.write_json(given.json)
