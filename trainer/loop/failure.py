"""Training that cannot go on, and the batch that shows why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from trainer.checkpoint import write_values
from trainer.data.batch import Batch

FAILED_BATCH = "failed-batch.pt"
_SHOWN = 16


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why and what to try."""


def fail(what: str, step: int, terms: Mapping[str, float], batch: Batch, folder: Path | None) -> TrainingError:
    """The error for a batch that gave no usable numbers; the batch is kept in ``folder`` to be looked at.

    The file holds ``step``, ``terms`` and, under ``batch``, the batch's tensors by name (`Batch`, `View`).
    """
    kept = ""
    if folder is not None:
        path = folder / FAILED_BATCH
        write_values(path, {"step": step, "terms": dict(terms), "batch": _tensors(batch)})
        kept = f"; the batch is in {path}"
    identities = sorted(set(batch.identity.tolist()))
    return TrainingError(
        f"{what} at step {step}: {_figures(terms)}; identities of the batch: {_some(identities)}, "
        f"rows: {_some(batch.rows.tolist())}{kept}. Try a lower schedule.learning_rate"
    )


def _figures(terms: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in terms.items())


def _some(numbers: Sequence[int]) -> str:
    more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
    return ", ".join(map(str, numbers[:_SHOWN])) + more


def _tensors(value: Any) -> Any:
    """Dataclasses and mappings of tensors as plain dictionaries on the CPU."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, Mapping):
        return {name: _tensors(inner) for name, inner in value.items()}
    return None if value is None else _tensors(vars(value))
