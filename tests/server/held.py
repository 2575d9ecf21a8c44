"""A real session behind a gate: tests hold it while requests wait, or break it."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from glimpse.parts import PartFeatures
from glimpse.runtime import Session
from server.extraction.loading import load_model
from server.settings import ServerSettings


class HeldSession(Session):
    """Runs a batch only while the gate is open. `open` is a drop-in for `load_model`."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        """Released once a batch, before it waits at the gate."""
        self.broken = False
        self.sizes: list[int] = []

    def open(self, settings: ServerSettings) -> Session:
        real = load_model(settings)
        super().__init__(real.bundle, real.provider, real.threads, real._infer)
        return self

    def run(self, images: NDArray[np.uint8]) -> PartFeatures:
        self.sizes.append(len(images))
        self.entered.release()
        assert self.gate.wait(60)
        if self.broken:
            raise RuntimeError("the device is gone")
        return super().run(images)

    def warm(self, batches: Iterable[int]) -> None:
        if self.broken:
            raise RuntimeError("the device is gone")
