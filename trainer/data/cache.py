"""Arrays of training images on disk, written once and memory-mapped ever after. Knows no torch."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
_DONE = "done"


def cache_folder() -> Path:
    """``$GLIMPSE_CACHE``, else ``glimpse`` in the user's cache folder."""
    own = os.environ.get("GLIMPSE_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "glimpse"


def cached(folder: Path, shapes: Mapping[str, tuple[tuple[int, ...], type]], fill: Callable[[Arrays], None]) -> Arrays:
    """The arrays of ``folder``, filled by ``fill`` first where they are not there.

    They are written beside the folder and moved there when they are whole, so that an interrupted run or two runs at
    once leave nothing half-written.
    """
    if not (folder / _DONE).exists():
        staging = folder.with_name(f"{folder.name}.{os.getpid()}")
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        try:
            arrays = {
                name: np.lib.format.open_memmap(staging / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)
                for name, (shape, dtype) in shapes.items()
            }
            fill(arrays)
            for array in arrays.values():
                array.flush()
            (staging / _DONE).touch()
            shutil.rmtree(folder, ignore_errors=True)
            staging.rename(folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    # As plain arrays: a `memmap` costs more to index than a small image to copy.
    return {name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in shapes}
