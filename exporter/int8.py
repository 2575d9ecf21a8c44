"""int8 by static quantisation: QDQ, weights S8 per channel, activations U8 with ranges from calibration images.

Static, because with dynamic ranges an image's embedding depends on its batch mates. U8 x S8, because that is what
VNNI multiplies (S8 x S8 measured 2.6 times slower on such a CPU). On a CPU without VNNI sums of such products overflow,
so a session there multiplies U8 x U8 (`glimpse.runtime.onnx_graph.WIDE_SUMS`).
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporter.groups import WEIGHTED, layer_groups, nodes_between, nodes_of
from exporter.rewrites import rewrite
from exporter.unsharing import unshare_weights
from glimpse.images import decode_image
from glimpse.people import PeopleGenerator
from glimpse.preprocessing import Preprocessing

CALIBRATION_IMAGES = 64
MOST_CALIBRATION_IMAGES = 512
_SEED = 20_002  # of the calibration people: none of training, validation, test, golden samples or gate
_BATCH = 8
# Between the backbone's convolutions, so that a block stays in int8 from end to end.
_BETWEEN = ("Add", "Mul", "Relu", "Clip", "Sigmoid", "MaxPool", "AveragePool", "GlobalAveragePool", "ReduceMean")
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})


class CalibrationError(ValueError):
    """The calibration images cannot be used."""


class Int8Builder:
    """Quantises one graph, as often as asked, with different groups of layers kept in float32."""

    def __init__(self, graph: bytes, images: NDArray[np.uint8]) -> None:
        """Runs the graph on ``images``, uint8 ``(N, H, W, 3)``, and records the range of every activation."""
        import onnx

        original = onnx.load_from_string(graph)
        self.groups = layer_groups(original)
        self._between = nodes_between(original, self.groups, _BETWEEN)
        self._model = rewrite(original)
        self._ranges = _ranges(self._model, images)

    def __call__(self, kept: Collection[str]) -> bytes:
        """The int8 graph, with the groups called ``kept`` in float32."""
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
        from onnxruntime.quantization.quant_utils import QuantType

        floats = set(nodes_of(self.groups, kept))
        floats |= {node for node, group in self._between.items() if group in kept}
        converted = [node for group in self.groups for node in group.nodes] + list(self._between)
        chosen = _reached(self._model, [node for node in converted if node not in floats])
        if not chosen:  # to the quantiser an empty list means every node
            return bytes(self._model.SerializeToString())
        model = type(self._model).FromString(self._model.SerializeToString())
        quantizer = QDQQuantizer(
            model,
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=self._ranges,
            nodes_to_quantize=chosen,
            nodes_to_exclude=[node.name for node in self._model.graph.node if node.name not in chosen],
            op_types_to_quantize=[*WEIGHTED, *_BETWEEN],
            extra_options={"ActivationSymmetric": False, "WeightSymmetric": True},
        )
        quantizer.quantize_model()
        unshare_weights(quantizer.model.model)
        return bytes(quantizer.model.model.SerializeToString())


def _reached(model: Any, chosen: Collection[str]) -> list[str]:
    """``chosen`` without what lies between floats only: to turn its operands to int8 and back costs what it saves.

    A product with a constant is one of those too.
    """
    kept = set(chosen)
    made: set[str] = set()
    for node in model.graph.node:
        if node.name in kept and node.op_type not in WEIGHTED and not made.issuperset(node.input[: _operands(node)]):
            kept.discard(node.name)
        if node.name in kept:
            made.update(node.output)
    return [name for name in chosen if name in kept]


def _operands(node: Any) -> int:
    """How many inputs of a node are tensors of the image."""
    return 2 if node.op_type in {"Add", "Mul"} else 1


def calibration_images(preprocessing: Preprocessing, folder: Path | None = None) -> NDArray[np.uint8]:
    """Images for the ranges: generated people, every other one partly hidden, or those of ``folder`` (at most 512).

    Raises:
        CalibrationError: the folder holds no image that can be read.
    """
    if folder is None:
        generator = PeopleGenerator(_SEED, wardrobe="all")
        views = [
            generator.view(i, i % 6, 0, occlusion=(0.2, 0.7) if i % 2 else None) for i in range(CALIBRATION_IMAGES)
        ]
        return np.stack([preprocessing(view.image) for view in views])
    if not folder.is_dir():
        raise CalibrationError(f"{folder}: no such folder of calibration images")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    if not paths:
        raise CalibrationError(f"{folder}: no image ({', '.join(sorted(_SUFFIXES))}) to calibrate with")
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(len(paths), MOST_CALIBRATION_IMAGES)).round().astype(int))
    return np.stack([preprocessing(decode_image(paths[i].read_bytes())) for i in chosen])


def _ranges(model: Any, images: NDArray[np.uint8]) -> Any:
    """ONNX Runtime's table of the least and largest value of every tensor."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches: Iterator[NDArray[np.uint8]] = iter(
                [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
            )

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            batch = next(self._batches, None)
            return None if batch is None else {"images": np.ascontiguousarray(batch)}

    logging.getLogger().setLevel(max(logging.getLogger().level, logging.WARNING))
    with tempfile.TemporaryDirectory(prefix="glimpse-int8-") as folder:
        path = Path(folder) / "model.onnx"
        onnx.save_model(model, str(path))
        calibrator = create_calibrator(
            path,
            [*WEIGHTED, *_BETWEEN],
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=CalibrationMethod.MinMax,
        )
        calibrator.collect_data(Reader())
        ranges = calibrator.compute_data()
        del calibrator
    return ranges
