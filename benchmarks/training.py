"""Training: the loop against a bare PyTorch loop, and the loader against the fastest model.

Throughput: `glimpse train`'s own loop (loading and augmenting every image, Lightning, checks, progress, TensorBoard)
and a bare PyTorch loop (forward, backward, clip, step) over augmented batches that lie ready in memory. Same method,
same optimiser, same batch size. The bare loop runs twice: in a process of its own, as anyone would write it, and in the
trainer's process, where it too keeps the memory that a step frees (`trainer.loop.memory`), so that only the loops
differ. One step of each in turn, so that whatever else the machine does meets all. A ratio is the median over
neighbouring steps.

Loader: a folder of 128 x 64 JPEGs, decoded once into the cache, then augmented anew for every batch. Images per second
of that decoding, of the loader alone on all cores, of the optimiser steps of the smallest model alone on all cores, and
of both together on the same cores, where the loader must not keep the model waiting.
"""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import trainer
from benchmarks.report import Report, Row
from glimpse.people import PeopleGenerator
from glimpse.runtime.threads import available_cores
from trainer.data.sources import open_sources
from trainer.data.training import Source, TrainingSet
from trainer.loop import fit
from trainer.loop.batches import TrainingBatches
from trainer.loop.optimiser import build_optimiser
from trainer.methods import find_method
from trainer.recipe import Recipe, load_recipe

assert trainer  # before timm and Lightning: see `trainer.torchvision_guard`
import lightning as L  # noqa: E402
import torch  # noqa: E402

RECIPE = "glimpse-baseline"
"""The cheapest steps of all recipes for two cores: frozen first stages, 192 x 96. The costlier the step, the less a
loop around it weighs."""
FAST = (
    "backbone.name=mobilenetv3_small_050",
    "backbone.pretrained=false",
    "backbone.frozen_stages=0",
    "backbone.strides=[32]",
    "backbone.last_stride=2",
    "preprocessing.height=128",
    "preprocessing.width=64",
    "schedule.small=0",
)
"""On `bot-lite`: a mean and a classifier above the smallest of timm's common backbones."""
WAITING = 0.1
"""Most of a training step that may be spent waiting for its batch."""


def run(quick: bool) -> Report:
    """Both measurements; ``quick`` takes fewer steps."""
    report = Report("training")
    with tempfile.TemporaryDirectory(prefix="glimpse-training-") as folder:
        compare_loops(report, Path(folder), 16 if quick else 48)
        measure_loader(report, Path(folder), 60 if quick else 200)
    return report


def compare_loops(report: Report, folder: Path, steps: int) -> None:
    """Adds the throughput of the trainer's loop and of the bare ones."""
    recipe = _steps(load_recipe(RECIPE, ["schedule.small=0", "data.identities=64", "data.views=4"]), steps)
    sources, _ = open_sources(recipe, ["generated"], cache=folder)
    with Elsewhere(recipe, folder) as elsewhere:
        turns = Turns(elsewhere, BareLoop(recipe, sources))
        fit(recipe, folder / "run", sources, progress=False, callbacks=[turns])
    size = _batch(recipe)
    shown = f"{recipe.name}, {recipe.preprocessing.height} x {recipe.preprocessing.width}, batches of {size}"
    report.add(Row("training_images_per_second", size / statistics.median(turns.ours), "images/s", peer=shown))
    for name, seconds, goal, peer in (
        ("bare_loop", turns.bare, ">= 0.95", "its own process, batches ready in memory"),
        ("bare_loop_keeping_memory", turns.kept, None, "batches ready in memory, our allocation"),
    ):
        report.add(Row(f"{name}_images_per_second", size / statistics.median(seconds), "images/s", peer=peer))
        ratio = statistics.median(bare / ours for ours, bare in zip(turns.ours, seconds, strict=True))
        report.add(Row(f"training_over_{name}", ratio, "ratio", goal=goal, peer=f"{len(seconds)} steps of each"))


def measure_loader(report: Report, folder: Path, steps: int) -> None:
    """Adds the rates of loader and model, alone and together."""
    cores = available_cores()
    recipe = _steps(load_recipe("bot-lite", FAST), steps)
    count = write_photographs(folder / "market" / "bounding_box_train")
    begin = time.perf_counter()
    sources, _ = open_sources(recipe, [f"market1501:{folder / 'market'}"], cache=folder)
    decoded = count / (time.perf_counter() - begin)

    size = _batch(recipe)
    loader = loader_rate(recipe, sources, steps, cores)
    model = BareLoop(recipe, sources)
    alone = size / statistics.median(model.timed(step) for step in range(steps))
    watch = Waiting()
    beside = recipe.model_copy(update={"schedule": recipe.schedule.model_copy(update={"workers": max(1, cores - 1)})})
    fit(beside, folder / "fast", sources, progress=False, callbacks=[watch])

    report.add(Row("decoding_images_per_second", decoded, "images/s", peer="once, 128 x 64 JPEG"))
    report.add(Row("loader_images_per_second", loader, "images/s", peer=f"{cores} processes"))
    report.add(Row("fast_model_images_per_second", alone, "images/s", peer=f"{recipe.backbone.name}, in memory"))
    report.add(Row("loader_over_fast_model", loader / alone, "ratio", goal=">= 1", peer="each has all cores"))
    together = size / statistics.median(watch.steps)
    report.add(Row("together_images_per_second", together, "images/s", peer="both on the same cores"))
    waited = sum(watch.waits) / sum(watch.steps)
    report.add(Row("share_waiting_for_the_loader", waited, "share", goal=f"<= {WAITING}", peer="of a training step"))


class BareLoop:
    """The method and optimiser of a recipe over augmented batches in memory."""

    def __init__(self, recipe: Recipe, sources: Sequence[Source]) -> None:
        training = _training_set(recipe, sources)
        self.recipe = recipe
        self.method = find_method(recipe.method).load().from_recipe(recipe, training.population)
        self.method.to(memory_format=torch.channels_last).train()
        self.optimiser = build_optimiser(self.method, recipe.schedule)
        self.batches = list(TrainingBatches(training, recipe.schedule, steps=4, seed=0))
        self.timed(0)

    def timed(self, step: int) -> float:
        """Seconds of one step."""
        begin = time.perf_counter()
        self.optimiser.zero_grad()
        torch.stack(list(self.method.losses(self.batches[step % len(self.batches)]).values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(self.method.parameters(), self.recipe.schedule.clip)
        self.optimiser.step()
        return time.perf_counter() - begin


class Elsewhere:
    """A `BareLoop` in a process of its own, which allocates as any Python process does; a context."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_answer, args=(theirs, recipe, folder), daemon=True)

    def __enter__(self) -> Elsewhere:
        self._process.start()
        self._pipe.recv()
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.send(None)
        self._process.join()

    def timed(self, step: int) -> float:
        """Seconds of one step, as it measured them itself."""
        self._pipe.send(step)
        return float(self._pipe.recv())


def _answer(pipe: Connection, recipe: Recipe, folder: Path) -> None:
    sources, _ = open_sources(recipe, ["generated"], cache=folder)
    loop = BareLoop(recipe, sources)
    pipe.send("ready")
    while (step := pipe.recv()) is not None:
        pipe.send(loop.timed(step))


@dataclass
class Turns(L.Callback):  # type: ignore[misc]
    """A step of each bare loop after each of the trainer's; what is between is the trainer's time."""

    elsewhere: Elsewhere
    here: BareLoop
    ours: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    kept: list[float] = field(default_factory=list)
    _mark: float | None = None

    def on_train_batch_end(self, *_: Any) -> None:
        now = time.perf_counter()
        step = len(self.ours)
        bare, kept = self.elsewhere.timed(step), self.here.timed(step)
        if self._mark is not None:  # the first step of each warms up
            self.ours.append(now - self._mark)
            self.bare.append(bare)
            self.kept.append(kept)
        self._mark = time.perf_counter()


@dataclass
class Waiting(L.Callback):  # type: ignore[misc]
    """How long whole steps take, and how long of that nothing happens but waiting for the batch."""

    steps: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    _ended: float | None = None
    _waited: float = 0.0
    _seen: int = 0

    def on_train_batch_start(self, *_: Any) -> None:
        if self._ended is not None:
            self._waited = time.perf_counter() - self._ended

    def on_train_batch_end(self, *_: Any) -> None:
        now = time.perf_counter()
        self._seen += 1
        if self._ended is not None and self._seen > 8:  # workers have to start
            self.steps.append(now - self._ended)
            self.waits.append(self._waited)
        self._ended = now


def loader_rate(recipe: Recipe, sources: Sequence[Source], steps: int, workers: int) -> float:
    """Images per second of nothing but loading, once the workers run."""
    schedule = recipe.schedule.model_copy(update={"workers": workers})
    ahead = 2 * workers + 2  # batches that may lie ready when the clock starts
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        batches = iter(TrainingBatches(_training_set(recipe, sources), schedule, steps=steps + ahead, seed=0))
        for _ in range(ahead):
            next(batches)
        begin = time.perf_counter()
        seen = sum(len(batch.identity) for batch in batches)
        return seen / (time.perf_counter() - begin)
    finally:
        cv2.setNumThreads(before)


def write_photographs(folder: Path, people: int = 30, copies: int = 16) -> int:
    """Generated people as JPEGs of 128 x 64 in Market-1501's names; gives their number."""
    folder.mkdir(parents=True)
    generator = PeopleGenerator(0)
    for who in range(people):
        for camera in (1, 2):
            image = cv2.resize(generator.view(who, camera, 0).image, (72, 144), interpolation=cv2.INTER_AREA)
            for shot in range(copies):
                y, x = np.random.default_rng((who, camera, shot)).integers(0, (17, 9))
                name = f"{who + 1:04d}_c{camera}s1_{shot:06d}_00.jpg"
                cv2.imwrite(str(folder / name), image[y : y + 128, x : x + 64, ::-1])
    return people * 2 * copies


def _training_set(recipe: Recipe, sources: Sequence[Source]) -> TrainingSet:
    return TrainingSet(sources, recipe.augmentation, recipe.occlusion, 0, group=recipe.schedule.views)


def _batch(recipe: Recipe) -> int:
    return recipe.schedule.people * recipe.schedule.views


def _steps(recipe: Recipe, steps: int) -> Recipe:
    length = {"steps": steps + 1, "epochs": None, "validate_every": steps + 1}
    return recipe.model_copy(update={"schedule": recipe.schedule.model_copy(update=length)})
