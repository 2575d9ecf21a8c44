"""Arrays and texts that only grow, for one writer and any number of readers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class GrowingArray:
    """A one-dimensional array that doubles. A view handed out stays valid, and unchanged up to its own length."""

    def __init__(self, dtype: type[np.generic]) -> None:
        self._buffer: NDArray[Any] = np.empty(0, dtype)

    def reserve(self, size: int) -> None:
        """Room for ``size`` values in all."""
        if size > len(self._buffer):
            buffer = np.empty(max(size, 2 * len(self._buffer), 64), self._buffer.dtype)
            buffer[: len(self._buffer)] = self._buffer
            self._buffer = buffer

    def write(self, start: int, values: Sequence[Any] | NDArray[Any]) -> None:
        """Sets the values from ``start`` on; there must be room."""
        self._buffer[start : start + len(values)] = values

    def view(self, size: int) -> NDArray[Any]:
        """The first ``size`` values."""
        return self._buffer[:size]

    def __getitem__(self, index: int) -> Any:
        return self._buffer[index]


class Codes:
    """Texts that repeat (cameras, people) as small integers."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._codes: dict[str, int] = {}

    def encode(self, texts: Sequence[str]) -> list[int]:
        """The code of each text; new texts get new codes."""
        codes = list(map(self._codes.get, texts))
        return [self._code(text) if code is None else code for text, code in zip(texts, codes, strict=True)]

    def among(self, texts: Sequence[str], codes: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Which of ``codes`` stand for one of ``texts``."""
        wanted = [self._codes[text] for text in texts if text in self._codes]
        if not wanted:
            return np.zeros(len(codes), np.bool_)
        return codes == wanted[0] if len(wanted) == 1 else np.isin(codes, wanted)

    def _code(self, text: str) -> int:
        code = self._codes.get(text)
        if code is None:
            self.texts.append(text)
            code = self._codes[text] = len(self.texts) - 1
        return code
