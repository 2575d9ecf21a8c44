"""Validates a training and keeps what it is worth: the best checkpoint, and the state that a resumption needs."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch

from glimpse.parts import PartSchema
from trainer.checkpoint import load_checkpoint, load_weights, save_checkpoint
from trainer.loop.batches import TrainingBatches
from trainer.loop.module import TrainingModule
from trainer.loop.state import Identity, PseudoLabels, capture_random, method_state, restore_random, write_state
from trainer.loop.validation import Validation

log = logging.getLogger("glimpse.train")

CHECKPOINT = "checkpoint.pt"
SAVE_SECONDS = 300.0
"""An interruption costs at most so much, even where validations are far apart (on one device)."""


class Keeper(L.Callback):  # type: ignore[misc]
    """Writes ``checkpoint.pt``, the best by the mAP of the first validation listing, and ``last.pt``.

    Without validation ``checkpoint.pt`` is the last. Only the first device writes.

    Args:
        folder: where both go.
        identity: of the run.
        command: that made it, for the checkpoint.
        validation: on held-out identities, never on a test part.
        batches: of the run.
        state: what ``last.pt`` held, when this is a resumption.
    """

    def __init__(
        self,
        folder: Path,
        identity: Identity,
        command: str,
        validation: Validation,
        batches: TrainingBatches,
        state: Mapping[str, Any] | None,
    ) -> None:
        self.folder, self.identity, self.command = folder, identity, command
        self.validation, self.batches, self.state = validation, batches, state
        self.best: dict[str, Any] | None = state["best"] if state else None
        """``step`` and ``figures`` of the best validation."""
        self.pseudo = PseudoLabels(folder)
        if state:
            batches.data.pseudo = self.pseudo.read(state["pseudo"])
        self._before = float(state["seconds"]) if state else 0.0
        self._began = self._saved = time.monotonic()

    @property
    def checkpoint(self) -> Path:
        """The file of the best weights."""
        return self.folder / CHECKPOINT

    def on_train_start(self, trainer: L.Trainer, module: TrainingModule) -> None:
        self._began = self._saved = time.monotonic()
        if self.state is None:
            self._save(trainer, module)  # a run that is killed at once can be resumed too
            return
        trainer.optimizers[0].load_state_dict(self.state["optimiser"])
        trainer.lr_scheduler_configs[0].scheduler.load_state_dict(self.state["rates"])
        if self.state["scaler"]:
            trainer.precision_plugin.load_state_dict(self.state["scaler"])
        restore_random(self.state["random"][trainer.global_rank])

    def on_train_batch_end(
        self, trainer: L.Trainer, module: TrainingModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        schedule = self.identity.recipe.schedule
        if (batch_idx + 1) % schedule.accumulate:
            return
        if module.step % schedule.validate_every == 0 or module.step == module.steps:
            if trainer.is_global_zero:
                self._validate(trainer, module)
            trainer.strategy.barrier("validation")
            self._save(trainer, module)
        elif trainer.world_size == 1 and time.monotonic() - self._saved > SAVE_SECONDS:
            self._save(trainer, module)

    def finish(self, module: TrainingModule) -> None:
        """Tunes the schema of the best weights on all validation listings and writes the checkpoint anew."""
        if not self.validation:
            return
        best = load_checkpoint(self.checkpoint)
        load_weights(module.method, best.weights)
        schema, figures = self.validation.tune(module.method)
        log.info("tuned schema of step %d: %s", best.step, self.validation.describe(figures))
        self._write_checkpoint(module, schema, best.step, figures)

    def _validate(self, trainer: L.Trainer, module: TrainingModule) -> None:
        figures = self.validation.measure(module.method)
        gained = self.best is None or figures.get("validation_mAP", 0.0) > self.best["figures"]["validation_mAP"]
        if self.validation:
            terms = " ".join(f"{name} {float(value):.3f}" for name, value in module.terms.items())
            log.info(
                "step %d of %d, %.0f s: %s | %s%s",
                module.step,
                module.steps,
                self._seconds(),
                terms,
                self.validation.describe(figures),
                " (best so far)" if gained else "",
            )
            shown = {f"validation/{name.removeprefix('validation_')}": figure for name, figure in figures.items()}
            trainer.logger.log_metrics(shown, module.step)
        if gained or not self.validation:
            self._write_checkpoint(module, module.method.schema, module.step, figures)
            self.best = {"step": module.step, "figures": figures} if self.validation else None

    def _write_checkpoint(
        self, module: TrainingModule, schema: PartSchema, step: int, figures: dict[str, float]
    ) -> None:
        provenance = self.identity.provenance.model_copy(
            update={
                "steps": module.step,
                "epochs": round(module.step / self.batches.epoch_steps, 3),
                "hours": round(self._seconds() / 3600, 4),
            }
        )
        save_checkpoint(
            self.checkpoint,
            module.method,
            schema,
            self.identity.recipe,
            population=self.identity.population,
            provenance=provenance,
            seed=self.identity.seed,
            step=step,
            command=self.command,
            metrics=figures,
        )

    def _save(self, trainer: L.Trainer, module: TrainingModule) -> None:
        drawn = [capture_random()]
        if trainer.world_size > 1:
            gathered: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(gathered, drawn[0])
            drawn = gathered
        if not trainer.is_global_zero:
            return
        epoch = max(0, module.step - 1) // self.batches.epoch_steps
        pseudo = self.pseudo.write(self.batches.data.pseudo, epoch)
        write_state(
            self.folder,
            {
                "identity": self.identity.to_values(),
                "step": module.step,
                "steps": module.steps,
                "seconds": self._seconds(),
                "best": self.best,
                "pseudo": pseudo,
                "board": trainer.logger.version,
                "random": drawn,
                "optimiser": trainer.optimizers[0].state_dict(),
                "rates": trainer.lr_scheduler_configs[0].scheduler.state_dict(),
                "scaler": trainer.precision_plugin.state_dict(),
                **method_state(module.method),
            },
        )
        self.pseudo.forget_others(pseudo)
        self._saved = time.monotonic()

    def _seconds(self) -> float:
        return self._before + time.monotonic() - self._began
