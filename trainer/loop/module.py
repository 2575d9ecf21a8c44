"""A method as Lightning trains it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from trainer.data.batch import Batch
from trainer.loop.failure import TrainingError, fail
from trainer.loop.optimiser import build_optimiser, rate_factor
from trainer.recipe import Recipe


class TrainingModule(L.LightningModule):  # type: ignore[misc]
    """A method with its optimiser and learning rates.

    Args:
        method: see `trainer.methods`.
        recipe: its schedule.
        steps: optimiser steps of the whole training.
        folder: where the batch goes that stops the training; None keeps none.

    Attributes:
        step: optimiser steps done, those before a resumption included.
        terms: the last batch's terms of the loss, detached.
        gradient_norm: of the last step, before clipping.
    """

    def __init__(self, method: nn.Module, recipe: Recipe, steps: int, folder: Path | None = None) -> None:
        super().__init__()
        self.method = method
        self.recipe = recipe
        self.steps = steps
        self.folder = folder
        self.step = 0
        self.terms: dict[str, Tensor] = {}
        self.gradient_norm: Tensor = torch.zeros(())
        self._batch: Batch | None = None

    def training_step(self, batch: Batch, _: int) -> Tensor:
        terms = self.method.losses(batch)
        loss = torch.stack([term.float() for term in terms.values()]).sum()
        self.terms = {name: term.detach() for name, term in terms.items()}
        self._batch = batch
        if not torch.isfinite(loss):
            raise self._failure("the loss is not finite")
        return loss

    def configure_gradient_clipping(self, optimizer: Any, gradient_clip_val: Any = None, *_: Any, **__: Any) -> None:
        """Clips to ``schedule.clip``; a gradient that is not finite stops the training before it spoils the weights.

        At precision 16 that is no failure: the scaler leaves out the step and scales by less.
        """
        gradients = [p.grad for p in self.method.parameters() if p.grad is not None]
        if not gradients:
            return
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.recipe.schedule.precision != "16" and not torch.isfinite(norm):
            raise self._failure(f"the gradient of {self._first_bad_parameter()} is not finite")
        if self.recipe.schedule.clip > 0:
            torch.nn.utils.clip_grads_with_norm_(list(self.method.parameters()), self.recipe.schedule.clip, norm)
        self.gradient_norm = norm.detach()

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.step += 1

    def configure_optimizers(self) -> dict[str, Any]:
        optimiser = build_optimiser(self.method, self.recipe.schedule)
        rates = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: rate_factor(self.recipe.schedule, step, self.steps)
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": rates, "interval": "step"}}

    def _first_bad_parameter(self) -> str:
        names = (
            name
            for name, parameter in self.method.named_parameters()
            if parameter.grad is not None and not torch.isfinite(parameter.grad).all()
        )
        return next(names, "all parameters together")

    def _failure(self, what: str) -> TrainingError:
        assert self._batch is not None
        terms = {name: float(term) for name, term in self.terms.items()}
        return fail(what, self.step, terms, self._batch, self.folder)


class MemoryUpdate(L.Callback):  # type: ignore[misc]
    """Calls a method's ``after_step`` for every batch, once the step it belongs to is made or, with accumulation,
    once its gradient is: each batch's features then reach the memories exactly once."""

    def on_train_batch_end(
        self, trainer: L.Trainer, module: TrainingModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        if hasattr(module.method, "after_step"):
            with torch.no_grad():
                module.method.after_step(batch)
