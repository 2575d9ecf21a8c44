"""`Graph`: an ONNX file on the CPU, run from many threads at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.pose.errors import AnnotationError
from trainer.pose.models.constants import with_constant_weights

Float32 = NDArray[np.float32]


class Graph:
    """One input, named outputs.

    Every run uses one thread: annotation runs many crops at once instead, which scales better on small networks.

    Raises:
        AnnotationError: no such file, no ONNX model, or not exactly one input.
    """

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError:
            raise AnnotationError("onnxruntime is not installed; get it with: pip install '.[cpu]'") from None
        if not path.is_file():
            raise AnnotationError(f"no model {path}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        # Crops differ in size; plans kept for every shape would grow without end.
        options.enable_mem_pattern = False
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            if self._session.get_overridable_initializers():
                model = with_constant_weights(path.read_bytes())
                self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises a dozen unrelated classes
            raise AnnotationError(f"{path} cannot be loaded as an ONNX model: {_first_line(error)}") from error
        self.path = path
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            raise AnnotationError(f"{path} has {len(inputs)} inputs ({[i.name for i in inputs]}); one was expected")
        self._input: str = inputs[0].name
        self.input_shape: tuple[int | None, ...] = _shape(inputs[0].shape)
        """None where the model leaves a size open."""
        self.outputs: Mapping[str, tuple[int | None, ...]] = {
            value.name: _shape(value.shape) for value in self._session.get_outputs()
        }

    def run(self, images: Float32, names: Sequence[str]) -> list[Float32]:
        """The named outputs of a batch.

        Raises:
            AnnotationError: the runtime refuses; the message is its own.
        """
        try:
            return [np.asarray(value, np.float32) for value in self._session.run(list(names), {self._input: images})]
        except Exception as error:  # as above
            raise AnnotationError(f"{self.path.name} does not run on {images.shape}: {_first_line(error)}") from error


def _shape(shape: Sequence[Any]) -> tuple[int | None, ...]:
    return tuple(side if isinstance(side, int) and side > 0 else None for side in shape)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].removeprefix("[ONNXRuntimeError] : ")
