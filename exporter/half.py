"""float16: half the size, and fast on GPUs. CPUs have no float16 arithmetic; there it runs, no faster."""

from __future__ import annotations

import warnings
from collections.abc import Collection

from exporter.groups import layer_groups, nodes_of

# Squares and logarithms leave float16's range (6e-8 to 65504), and the norms that they make must hold to 1e-3.
FLOAT_OPERATORS = ("ReduceL2", "ReduceSumSquare", "ReduceSum", "Pow", "Sqrt", "Exp", "Log", "LpNormalization", "Resize")


class HalfBuilder:
    """Converts one graph, as often as asked, with different groups of layers kept in float32."""

    def __init__(self, graph: bytes) -> None:
        import onnx

        self._graph = graph
        self.groups = layer_groups(onnx.load_from_string(graph))

    def __call__(self, kept: Collection[str]) -> bytes:
        """The float16 graph, with the groups called ``kept`` in float32; inputs and outputs are as before."""
        import onnx
        from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of constants that round to zero; the gate measures what that does
            model = convert_float_to_float16(
                onnx.load_from_string(self._graph),
                keep_io_types=True,
                op_block_list=[*DEFAULT_OP_BLOCK_LIST, *FLOAT_OPERATORS],
                node_block_list=nodes_of(self.groups, kept),
            )
        return bytes(model.SerializeToString())
