"""The training loop: Lightning over a method, with validation by the distance that ranks."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from glimpse.parts import PartFeatures, PartSchema
from trainer.checkpoint import save_checkpoint
from trainer.data.batch import Batch
from trainer.data.generated import list_validation
from trainer.data.rendered import render
from trainer.data.sampler import IdentitySampler
from trainer.evaluation import LabelledFeatures, extract, rank
from trainer.methods import find_method
from trainer.recipe import Recipe
from trainer.tuning import tune, under

log = logging.getLogger("glimpse.train")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # its hints are not about this run


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why and what to try."""


def features_of(method: Any, images: NDArray[np.uint8]) -> PartFeatures:
    """`PartFeatures` of uint8 images ``(N, H, W, 3)``, in evaluation mode; the method's mode is restored."""
    mode = method.training
    method.eval()
    with torch.inference_mode():
        vectors, visibility = method(torch.from_numpy(images).to(next(method.parameters()).device))
    method.train(mode)
    return PartFeatures(vectors.float().cpu().numpy(), visibility.float().cpu().numpy(), method.schema)


class TrainingModule(L.LightningModule):  # type: ignore[misc]
    """A method with its optimiser: AdamW, linear warm-up, cosine decay to zero, a lower rate for the backbone."""

    def __init__(self, method: torch.nn.Module, recipe: Recipe) -> None:
        super().__init__()
        self.method = method
        self.recipe = recipe

    def training_step(self, batch: Batch, _: int) -> torch.Tensor:
        terms = self.method.losses(batch)
        loss = torch.stack(list(terms.values())).sum()
        if not torch.isfinite(loss):
            shown = {name: float(term.detach()) for name, term in terms.items()}
            raise TrainingError(
                f"the loss is not finite at step {self.global_step}: {shown}; identities of the batch: "
                f"{sorted(set(batch.identity.tolist()))}. Try a lower schedule.learning_rate"
            )
        self.log_dict({name: term.detach() for name, term in terms.items()}, prog_bar=True, logger=False)
        self.last_terms = {name: float(term.detach()) for name, term in terms.items()}
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        schedule = self.recipe.schedule
        rates: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
        for name, parameter in self.method.named_parameters():
            if parameter.requires_grad:
                # No decay on biases, norms and proxies (proxies are normalised: decay only changes their rate).
                decays = parameter.ndim > 1 and name != "proxies"
                rates.setdefault((name.startswith("backbone."), decays), []).append(parameter)
        groups = [
            {
                "params": parameters,
                "lr": schedule.learning_rate * (schedule.backbone_rate if backbone else 1.0),
                "weight_decay": schedule.weight_decay if decays else 0.0,
            }
            for (backbone, decays), parameters in rates.items()
        ]
        optimiser = torch.optim.AdamW(groups)
        warm = max(1, round(schedule.warmup * schedule.steps))

        def factor(step: int) -> float:
            if step < warm:
                return (step + 1) / warm
            return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, schedule.steps - warm)))

        return {
            "optimizer": optimiser,
            "lr_scheduler": {
                "scheduler": torch.optim.lr_scheduler.LambdaLR(optimiser, factor),
                "interval": "step",
            },
        }


class Validation(L.Callback):  # type: ignore[misc]
    """Every so many steps, and at the end: Rank-1 on validation identities, a log line and a checkpoint."""

    def __init__(self, recipe: Recipe, save: Callable[[int, PartSchema, dict[str, float]], None]) -> None:
        self.recipe = recipe
        self.save = save
        self.listing = list_validation(recipe.data)
        self.started = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        step, schedule = trainer.global_step, self.recipe.schedule
        last = step == schedule.steps
        if step % schedule.validate_every == 0 or last:
            schema, metrics = self.measure(module.method, tuned=last)
            losses = " ".join(f"{name} {value:.3f}" for name, value in module.last_terms.items())
            log.info(
                "step %d of %d, %.0f s: %s | validation Rank-1 %.1f %% (all visibilities 1: %.1f %%), mAP %.1f %%",
                step, schedule.steps, time.monotonic() - self.started, losses,
                100 * metrics["validation_rank1"], 100 * metrics["validation_rank1_unweighted"],
                100 * metrics["validation_mAP"],
            )  # fmt: skip
            self.save(step, schema, metrics)

    def measure(self, method: Any, *, tuned: bool) -> tuple[PartSchema, dict[str, float]]:
        """The schema, tuned at the end, and the figures it gives on validation identities."""

        def run(images: NDArray[np.uint8]) -> PartFeatures:
            return features_of(method, images)

        query = extract(self.listing.query, self.recipe.preprocessing, run)
        gallery = extract(self.listing.gallery, self.recipe.preprocessing, run)
        schema = tune(query, gallery) if tuned else method.schema
        return schema, _figures(under(schema, query), under(schema, gallery))


def _figures(query: LabelledFeatures, gallery: LabelledFeatures) -> dict[str, float]:
    weighted, plain = rank(query, gallery), rank(query, gallery, weighted=False)
    return {
        "validation_rank1": round(weighted.rank1, 4),
        "validation_mAP": round(weighted.mAP, 4),
        "validation_rank1_unweighted": round(plain.rank1, 4),
        "validation_mAP_unweighted": round(plain.mAP, 4),
    }


def train(
    recipe: Recipe, out: Path, *, seed: int = 0, command: str = "", cache: Path | None = None, progress: bool = True
) -> Path:
    """Trains a recipe on generated people and gives the path of its checkpoint, ``out/checkpoint.pt``.

    The checkpoint is written at every validation, so an interrupted run leaves the last one.

    Raises:
        TrainingError: the loss is not finite.
        ValueError: a backbone or method that does not exist or does not fit.
    """
    out.mkdir(parents=True, exist_ok=True)
    L.seed_everything(seed, verbose=False)

    def drawn(done: int, total: int) -> None:
        if done == total or done % 80 == 0:
            log.info("drew %d of %d people", done, total)

    schedule = recipe.schedule
    data = render(
        recipe.data,
        recipe.preprocessing,
        recipe.augmentation,
        seed=seed,
        views=schedule.views,
        # Convolutions do not mind the size, and most of what there is to learn is learnt at less than half the cost.
        small_draws=round(schedule.small * schedule.steps) * schedule.people * schedule.views,
        cache=cache,
        progress=drawn,
    )
    identities = recipe.data.identities
    method = find_method(recipe.method).load().from_recipe(recipe, identities)
    module = TrainingModule(method.to(memory_format=torch.channels_last), recipe)
    sampler = IdentitySampler(np.asarray(data.identities), schedule.people, schedule.views, schedule.steps, seed)
    # No workers: drawing is done, and an augmentation costs a small share of a step.
    loader = DataLoader(data, batch_sampler=sampler, collate_fn=Batch.of)
    checkpoint = out / "checkpoint.pt"

    def save(step: int, schema: PartSchema, metrics: dict[str, float]) -> None:
        save_checkpoint(
            checkpoint, method, schema, recipe, identities=identities, seed=seed, step=step, command=command,
            metrics=metrics,
        )  # fmt: skip

    loop = L.Trainer(
        max_steps=schedule.steps,
        accelerator="auto",
        devices=1,
        precision="bf16-mixed" if schedule.precision == "bf16" else "32-true",
        callbacks=[Validation(recipe, save)],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=progress,
        gradient_clip_val=5.0,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*isinstance.treespec.*")
        loop.fit(module, loader)
    return checkpoint
