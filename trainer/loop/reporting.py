"""What a person sees of a training: a line with rate and time left, and TensorBoard."""

from __future__ import annotations

import logging
import time
from typing import Any

import lightning as L
import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from trainer.data.training import TrainingSet
from trainer.loop.batches import TrainingBatches
from trainer.loop.module import TrainingModule
from trainer.provenance import Provenance
from trainer.recipe import Recipe

log = logging.getLogger("glimpse.train")

BOARD_EVERY = 10
"""Steps between two entries of TensorBoard."""
DRAWING_SECONDS = 10.0
"""Between two log lines while data is drawn or decoded."""
LINE_SECONDS = 60.0
"""Between two log lines, where there is no terminal to show a live one."""


class Reporting(L.Callback):  # type: ignore[misc]
    """Shows progress live on a terminal, else as a log line a minute; writes losses and learning rates to the logger.

    Args:
        images: in one step, over all devices.
        live: whether stderr is a terminal that may be drawn on.
    """

    def __init__(self, images: int, live: bool) -> None:
        self.images = images
        self.live = live
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._began = self._line = time.monotonic()
        self._first = 0

    def on_train_start(self, trainer: L.Trainer, module: TrainingModule) -> None:
        self._began = self._line = time.monotonic()
        self._first = module.step
        if self.live and trainer.is_global_zero:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
            )
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("steps", total=module.steps, completed=module.step, rate="")
            self._bar.start()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: TrainingModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches or not trainer.is_global_zero:
            return
        if module.step % BOARD_EVERY == 0 or module.step == module.steps:
            trainer.logger.log_metrics(self._figures(trainer, module), module.step)
        if self._bar is not None:
            self._bar.update(self._task, completed=module.step, rate=self._pace(module))
        elif time.monotonic() - self._line >= LINE_SECONDS and module.step < module.steps:
            self._line = time.monotonic()
            terms = " ".join(f"{name} {float(value):.3f}" for name, value in module.terms.items())
            log.info("step %d of %d, %s: %s", module.step, module.steps, self._pace(module), terms)

    def on_train_end(self, trainer: L.Trainer, module: TrainingModule) -> None:
        self._stop()

    def on_exception(self, trainer: L.Trainer, module: TrainingModule, exception: BaseException) -> None:
        self._stop()
        if isinstance(exception, KeyboardInterrupt):
            log.info("interrupted at step %d of %d; the same command with --resume goes on", module.step, module.steps)

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _figures(self, trainer: L.Trainer, module: TrainingModule) -> dict[str, float]:
        terms = {f"loss/{name}": float(value) for name, value in module.terms.items()}
        rates = {f"learning_rate/{group['name']}": group["lr"] for group in trainer.optimizers[0].param_groups}
        return {**terms, "loss": sum(terms.values()), **rates, "gradient_norm": float(module.gradient_norm)}

    def _pace(self, module: TrainingModule) -> str:
        """``143 images/s, 12 min left``: over the run so far, validation included."""
        done = module.step - self._first
        seconds = max(1e-9, time.monotonic() - self._began)
        left = seconds / done * (module.steps - module.step)
        return f"{self.images * done / seconds:,.0f} images/s, {_duration(left)} left"


def _duration(seconds: float) -> str:
    """``35 s``, ``12 min``, ``2 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def tell(recipe: Recipe, training: TrainingSet, provenance: Provenance, steps: int, batches: TrainingBatches) -> None:
    """What there is to train on, and what is unusual about it."""
    schedule, population = recipe.schedule, training.population
    for source in provenance.sources:
        log.info("%s", source.describe())
    log.info(
        "%d steps of %d x %d images%s, %.1f epochs of %d steps; %d identities, %d cameras%s",
        steps,
        schedule.people,
        schedule.views,
        f" x {schedule.accumulate * batches.devices}" if schedule.accumulate * batches.devices > 1 else "",
        steps / batches.epoch_steps,
        batches.epoch_steps,
        population.identities,
        population.cameras,
        f"; from step {batches.start}" if batches.start else "",
    )
    if schedule.sampling == "identities":
        counts = np.bincount(training.identities)
        few = int((counts < schedule.views).sum())
        if few:
            log.info(
                "%d identities have fewer than %d images: theirs are drawn with replacement (%d have a single one)",
                few,
                schedule.views,
                int((counts == 1).sum()),
            )
    if schedule.precision == "16" and not torch.cuda.is_available():
        log.warning("precision 16 needs an accelerator; on a CPU it is bf16")


class Drawing:
    """Log lines while sources are drawn or decoded, with the time left."""

    def __init__(self) -> None:
        self._source = ""
        self._began = self._line = 0.0

    def __call__(self, source: str, done: int, total: int) -> None:
        now = time.monotonic()
        if source != self._source:
            self._source, self._began, self._line = source, now, now
        if done == total or now - self._line >= DRAWING_SECONDS:
            self._line = now
            left = (now - self._began) / done * (total - done)
            log.info("%s: %d of %d prepared, %.0f s left", source, done, total, left)
