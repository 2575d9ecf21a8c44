"""The state of a training, so that a killed run goes on as if nothing had happened.

``last.pt`` holds weights, every buffer, optimiser, learning rates, gradient scaler, random generators and the step;
a method's pseudo labels lie beside it. The sampler needs no state: it is drawn again up to the step. What decides the
run (recipe, seed, data, devices) is held too and must be the same.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from trainer.checkpoint import load_weights, on_cpu, read_values, resize_buffers, write_values
from trainer.data.training import Population
from trainer.loop.failure import TrainingError
from trainer.provenance import Provenance, versions
from trainer.recipe import Recipe

log = logging.getLogger("glimpse.train")

LAST = "last.pt"
FORMAT = 1


@dataclass(frozen=True)
class Identity:
    """What must be the same for a run to go on."""

    recipe: Recipe
    seed: int
    population: Population
    provenance: Provenance

    def to_values(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            "seed": self.seed,
            "population": {"identities": self.population.identities, "cameras": self.population.cameras},
            "sources": [source.name for source in self.provenance.sources],
            "fingerprint": self.provenance.fingerprint,
            "devices": self.provenance.devices,
        }


def read_state(folder: Path) -> dict[str, Any]:
    """The state in ``folder``.

    Raises:
        TrainingError: there is none. CheckpointError: the file is something else.
    """
    path = folder / LAST
    if not path.is_file():
        raise TrainingError(f"{path}: no such file, so there is nothing to resume; leave out --resume to start")
    return read_values(path, "a training state", FORMAT)


def unfinished(folder: Path) -> str | None:
    """How far an unfinished run in ``folder`` has come, in words; None where there is none."""
    if not (folder / LAST).is_file():
        return None
    state = read_state(folder)
    return None if state["step"] >= state["steps"] else f"step {state['step']} of {state['steps']}"


def check_same_recipe(state: Mapping[str, Any], recipe: Recipe, seed: int) -> None:
    """TrainingError names every key that differs, with both values; needs no data."""
    _refuse(
        {
            **_differences(state["identity"]["recipe"], recipe.model_dump(mode="json")),
            **_differences({"seed": state["identity"]["seed"]}, {"seed": seed}),
        },
        "a resumed run goes on as it began, its length included: start a new run in another folder",
    )


def check_same_run(state: Mapping[str, Any], identity: Identity) -> None:
    """TrainingError names what differs of recipe, seed, data and devices, with both values."""
    check_same_recipe(state, identity.recipe, identity.seed)
    before, now = dict(state["identity"]), identity.to_values()
    _refuse(
        _differences(
            {key: before[key] for key in ("sources", "population", "devices")},
            {key: now[key] for key in ("sources", "population", "devices")},
        ),
        "resume with the data and devices it began with",
    )
    _refuse(
        _differences({"data fingerprint": before["fingerprint"]}, {"data fingerprint": now["fingerprint"]}),
        "the numbers agree, but images or labels changed",
    )
    if state["versions"] != versions():
        changed = _differences(state["versions"], versions())
        log.warning("other versions than the run began with, so it may not end as an unbroken one: %s", _said(changed))


def capture_random() -> dict[str, Any]:
    """The states of the generators of Python, NumPy and torch, as plain values."""
    version, numbers, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 -- methods may draw from it
    return {
        "python": [version, list(numbers), gauss],
        "numpy": [str(name), np.asarray(keys).tolist(), int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random(state: Mapping[str, Any]) -> None:
    """Sets the generators as `capture_random` found them."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])


def method_state(method: nn.Module) -> dict[str, Any]:
    """Weights and all buffers, those that checkpoints leave out included."""
    weights = method.state_dict()
    others = {name: buffer for name, buffer in method.named_buffers() if name not in weights}
    return {"weights": on_cpu(weights), "buffers": on_cpu(others)}


def restore_method(method: nn.Module, state: Mapping[str, Any]) -> None:
    """Sets weights and buffers as `method_state` found them."""
    load_weights(method, state["weights"])
    resize_buffers(method, state["buffers"])
    for name, tensor in state["buffers"].items():
        method.get_buffer(name).copy_(tensor)


class PseudoLabels:
    """A method's own labels of the training images, in a file beside ``last.pt`` that is written once an epoch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._written: str | None = None

    def write(self, labels: np.ndarray[Any, np.dtype[np.uint8]] | None, epoch: int) -> str | None:
        """The name of the file that holds the labels of this epoch; None for no labels."""
        if labels is None:
            return None
        name = f"pseudo-{epoch}.npy"
        if self._written != name:
            partial = self.folder / f"{name}.partial"
            with partial.open("wb") as file:
                np.save(file, labels)
            partial.replace(self.folder / name)
            self._written = name
        return name

    def read(self, name: str | None) -> np.ndarray[Any, np.dtype[np.uint8]] | None:
        """The labels of a file that `write` named.

        Raises:
            TrainingError: it is gone.
        """
        if name is None:
            return None
        if not (self.folder / name).is_file():
            raise TrainingError(f"{self.folder / name} is missing: it holds the method's pseudo labels of last.pt")
        self._written = name
        return np.asarray(np.load(self.folder / name), np.uint8)

    def forget_others(self, name: str | None) -> None:
        """Removes the files of earlier epochs, once the state that needs ``name`` is on the disk."""
        for path in self.folder.glob("pseudo-*.npy"):
            if path.name != name:
                path.unlink()


def write_state(folder: Path, values: Mapping[str, Any]) -> None:
    """Writes ``last.pt`` whole or not at all."""
    write_values(folder / LAST, {"format": FORMAT, "versions": versions(), **values})


def _differences(before: Any, now: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted key -> both values, of every value that differs."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        found: dict[str, tuple[Any, Any]] = {}
        for key in sorted({*before, *now}):
            found |= _differences(before.get(key), now.get(key), f"{prefix}.{key}" if prefix else str(key))
        return found
    return {} if before == now else {prefix: (before, now)}


def _refuse(differences: Mapping[str, tuple[Any, Any]], advice: str) -> None:
    if differences:
        raise TrainingError(f"this is not the run that last.pt is of: {_said(differences)}; {advice}")


def _said(differences: Mapping[str, tuple[Any, Any]]) -> str:
    return "; ".join(f"{key} was {before!r}, is {now!r}" for key, (before, now) in differences.items())
