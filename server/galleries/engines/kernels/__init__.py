"""Machine code of the scans, made by Numba when the module of a kernel is first imported, and kept on disk.

The functions take plain arrays, hold no Python object and release the interpreter's lock. No compiler has to be
installed: Numba brings LLVM, and a processor gets the instructions it has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import llvmlite.binding as llvm
import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def _has(*features: str) -> bool:
    known = llvm.get_host_cpu_features()
    return all(known.get(feature, False) for feature in features)


VNNI = _has("avx512f", "avx512bw", "avx512vl", "avx512vnni")
"""Whether this processor multiplies bytes 64 at a time (AVX-512 VNNI)."""
AVX2 = _has("avx2")
"""Whether it multiplies shorts 16 at a time."""


def given(dtype: Any, dimensions: int) -> Any:
    """The type of an array that a kernel only reads; memory-mapped ones fit."""
    return numba.types.Array(dtype, dimensions, "C", readonly=True)


def kernel(signature: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compiles a function for these argument types when it is defined, so that no search waits for the compiler."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            compiled: Callable[..., Any] = numba.njit(signature, nogil=True, cache=True)(function)
        except RuntimeError:  # neither the package's folder nor the user's can be written
            compiled = numba.njit(signature, nogil=True)(function)
        return compiled

    return decorate


def part(function: Function) -> Function:
    """A function that kernels call."""
    compiled: Function = numba.njit(nogil=True)(function)
    return compiled


def summing(function: Function) -> Function:
    """A function that kernels call, whose sums may be made in any order: in lanes, side by side."""
    compiled: Function = numba.njit(nogil=True, fastmath={"reassoc", "contract"})(function)
    return compiled
