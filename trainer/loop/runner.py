"""A recipe and its data to a checkpoint."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy

from trainer.backbones import origin_of
from trainer.data import find_card
from trainer.data.listing import Listing
from trainer.data.sources import open_sources
from trainer.data.training import Source, TrainingSet, shares_of
from trainer.loop.batches import TrainingBatches, TrainingContext
from trainer.loop.keeper import Keeper
from trainer.loop.memory import keep_freed_memory
from trainer.loop.module import MemoryUpdate, TrainingModule
from trainer.loop.reporting import Drawing, Reporting, tell
from trainer.loop.requirements import check_recipe, check_views
from trainer.loop.state import Identity, check_same_recipe, check_same_run, read_state, restore_method
from trainer.loop.validation import Validation
from trainer.methods import find_method
from trainer.provenance import Provenance, SourceEntry, fingerprint
from trainer.recipe import Recipe

log = logging.getLogger("glimpse.train")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # its hints are not about this run

_PRECISION = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


def train(
    recipe: Recipe,
    out: Path,
    *,
    data: Sequence[str] = ("generated",),
    seed: int = 0,
    command: str = "",
    cache: Path | None = None,
    progress: bool = True,
    resume: bool = False,
    limit: int | None = None,
    devices: int | None = None,
    callbacks: Sequence[L.Callback] = (),
) -> Path:
    """Trains a recipe and gives the path of its checkpoint, ``out/checkpoint.pt``.

    Beside it: ``last.pt`` and, for a method with pseudo labels, their file, which ``resume`` goes on from;
    ``tensorboard/``; and ``failed-batch.pt`` if the loss stopped being finite.

    Args:
        recipe: all that decides the run but its data and seed.
        out: a folder, made if it is missing; an earlier run in it is overwritten unless ``resume``.
        data: ``generated`` or ``NAME:PATH``, as `trainer.data` knows them. Checkpoints are chosen by the held-out
            identities of the first.
        seed: of weights, batches and augmentation.
        command: put into the checkpoint.
        cache: where drawn and decoded images are kept.
        progress: a live line on stderr.
        resume: go on from ``out/last.pt``; on a CPU the result equals that of an unbroken run bit for bit.
        limit: at most so many identities of each source.
        devices: how many accelerators, or CPU processes; None takes all accelerators, or one process.
        callbacks: further Lightning callbacks, called before the loop's own.

    Raises:
        RecipeError: the recipe lacks what its method needs.
        TrainingError: the loss is not finite, or there is nothing that can be resumed.
        ValueError: data that is missing, broken, or too small for a batch; a backbone that does not exist.
    """
    check_recipe(recipe)
    if resume:
        check_same_recipe(read_state(out), recipe, seed)
    with _one_cv2_thread():
        sources, listings = open_sources(recipe, data, cache=cache, progress=Drawing())
    sources = tuple(_licensed(source if limit is None else limited(source, limit)) for source in sources)
    return fit(
        recipe,
        out,
        sources,
        listings,
        seed=seed,
        command=command,
        progress=progress,
        resume=resume,
        devices=devices,
        callbacks=callbacks,
    )


def fit(
    recipe: Recipe,
    out: Path,
    sources: Sequence[Source],
    listings: Sequence[Listing] = (),
    *,
    seed: int = 0,
    command: str = "",
    progress: bool = True,
    resume: bool = False,
    devices: int | None = None,
    callbacks: Sequence[L.Callback] = (),
) -> Path:
    """`train` on data that is open already; ``listings`` are of identities that ``sources`` do not hold."""
    check_recipe(recipe)
    keep_freed_memory()
    out.mkdir(parents=True, exist_ok=True)
    state = read_state(out) if resume else None
    schedule = recipe.schedule
    many = devices if devices is not None else max(1, torch.cuda.device_count())
    L.seed_everything(seed, verbose=False)

    group = schedule.views if schedule.sampling == "identities" else 1
    training = TrainingSet(sources, recipe.augmentation, recipe.occlusion, seed, group=group)
    steps = schedule.length(len(training) // many)
    batch = schedule.people * schedule.views
    images = batch * schedule.accumulate * many
    # Convolutions do not mind the size, and most of what there is to learn is learnt at less than half the cost.
    training.draws, training.small_draws = steps * images, round(schedule.small * steps) * images
    provenance = Provenance(
        sources=tuple(map(SourceEntry.of, sources)),
        fingerprint=fingerprint(sources),
        facts=(*_held_out(sources, listings), f"backbone {origin_of(recipe.backbone)}"),
        devices=many,
    )
    identity = Identity(recipe, seed, training.population, provenance)
    if state is not None:
        check_same_run(state, identity)

    method = find_method(recipe.method).load().from_recipe(recipe, training.population)
    check_views(recipe, method)
    # `train` tells the frozen stages that they are: they keep their statistics from the first step on.
    module = TrainingModule(method.to(memory_format=torch.channels_last).train(), recipe, steps, out)
    if state is not None:
        restore_method(method, state)
        module.step = state["step"]

    lightning = L.Trainer(
        max_epochs=1,
        accelerator="auto",
        devices=many,
        # A recipe may switch off what a head is for; its parameters then get no gradient.
        strategy=DDPStrategy(find_unused_parameters=True) if many > 1 else "auto",
        precision=_PRECISION[schedule.precision],
        accumulate_grad_batches=schedule.accumulate,
        logger=_board(out, state),
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    batches = TrainingBatches(
        training,
        schedule,
        steps=steps,
        seed=seed,
        start=module.step,
        shares=shares_of(sources, recipe.data.shares),
        begin=_epochs(method, training),
        rank=lightning.global_rank,
        devices=many,
    )
    keeper = Keeper(out, identity, command, Validation(listings, recipe.preprocessing), batches, state)
    lightning.callbacks = [MemoryUpdate(), *callbacks, keeper, Reporting(images, progress), *lightning.callbacks]
    lightning.logger.log_hyperparams({**recipe.model_dump(mode="json"), "seed": seed})
    if lightning.is_global_zero:
        tell(recipe, training, provenance, steps, batches)
    with warnings.catch_warnings(), _one_cv2_thread():
        warnings.filterwarnings("ignore", message=".*isinstance.treespec.*")
        warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
        warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")  # frozen stages
        if len(batches):
            lightning.fit(module, batches)
    if lightning.is_global_zero:
        keeper.finish(module)
    return keeper.checkpoint


def limited(source: Source, identities: int) -> Source:
    """The images of the first so many identities of a source."""
    chosen = np.unique(source.people)[:identities]
    rows = np.flatnonzero(np.isin(source.people, chosen))
    count = len(source.people)
    if len(rows) == count:
        return source
    taught = np.concatenate([rows + copy * count for copy in range(source.copies)])
    return replace(
        source,
        images=source.images[rows],
        regions=source.regions[rows],
        extent=source.extent[rows],
        points=source.points[rows],
        people=source.people[rows],
        cameras=source.cameras[rows],
        facts=(*source.facts, f"only the first {len(chosen)} identities"),
        teacher=None if source.teacher is None else source.teacher[taught],
    )


def _licensed(source: Source) -> Source:
    """The source with its data set's licence among its facts."""
    return replace(source, facts=(*source.facts, f"licence: {find_card(source.name).licence}"))


def _held_out(sources: Sequence[Source], listings: Sequence[Listing]) -> list[str]:
    """The facts of the validation that no source states itself."""
    stated = {fact for source in sources for fact in source.facts}
    return [fact for listing in listings for fact in listing.facts if fact not in stated]


def _epochs(method: Any, training: TrainingSet) -> Callable[[int], None] | None:
    """What begins an epoch of the method; None where it does not care."""
    if not callable(getattr(method, "begin_epoch", None)):
        return None

    def begin(epoch: int) -> None:
        mode = method.training
        method.begin_epoch(TrainingContext(training, epoch))
        method.train(mode)

    return begin


def _board(out: Path, state: Any) -> TensorBoardLogger:
    """TensorBoard in ``out/tensorboard``, a folder a run; a resumption goes on in the folder it began in."""
    import torch.utils.tensorboard  # its error names the missing package, Lightning's does not

    assert torch.utils.tensorboard
    if state is None:
        return TensorBoardLogger(out, name="tensorboard", default_hp_metric=False)
    # Whatever was written after the state was kept happens again.
    since = state["step"] + 1
    return TensorBoardLogger(out, name="tensorboard", version=state["board"], default_hp_metric=False, purge_step=since)


class _one_cv2_thread:
    """OpenCV's threads help no image this small, take torch's cores, and do not survive the fork of a worker."""

    def __enter__(self) -> None:
        self._before = cv2.getNumThreads()
        cv2.setNumThreads(1)

    def __exit__(self, *_: object) -> None:
        cv2.setNumThreads(self._before)
