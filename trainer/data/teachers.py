"""A teacher: another model's embedding of every training image, computed once and cached.

Students learn to agree with it on images that they see changed and partly covered, and that it saw whole. Which
teacher, and what it was trained on, is part of the recipe and stands in the facts of whatever is trained with it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.data.cache import Arrays, cache_folder, cached
from trainer.data.listing import DatasetError
from trainer.data.training import Source
from trainer.recipe import TeacherRecipe

_BATCH = 64


class Teacher:
    """A compiled teacher.

    Attributes:
        sha256: of its weights. size: height and width of its input. width: T, of its embedding.

    Raises:
        DatasetError: no such file, no OpenVINO to run it, or an input of another form.
    """

    def __init__(self, recipe: TeacherRecipe) -> None:
        try:
            import openvino
        except ImportError as error:
            raise DatasetError("a teacher runs on OpenVINO: pip install -c constraints.txt '.[openvino]'") from error
        path = Path(recipe.model).expanduser()
        weights = path.with_suffix(".bin") if path.suffix == ".xml" else path
        if not path.is_file() or not weights.is_file():
            raise DatasetError(f"no teacher {path}{'' if weights == path else ' with its .bin beside it'}")
        model = openvino.Core().read_model(path)
        shape = model.inputs[0].get_partial_shape()
        if len(shape) != 4 or shape[1] != 3 or shape[2].is_dynamic or shape[3].is_dynamic:
            raise DatasetError(f"{path.name}: a teacher takes (N, 3, H, W), this model {shape}")
        self.name, self.bgr = path.stem, recipe.bgr
        self.sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
        self.size = (shape[2].get_length(), shape[3].get_length())
        self.width = int(model.outputs[0].get_partial_shape()[-1].get_length())
        self._openvino = openvino
        # bfloat16 where the processor has it: a cosine of 0.999 to float32 is as good a target at twice the speed.
        self._compiled = openvino.Core().compile_model(model, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT"})

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 RGB ``(n, h, w, 3)`` to embeddings ``(n, T)`` of unit norm."""
        found = np.zeros((len(images), self.width), np.float32)
        # One image a request: the published graphs have a batch of 1 baked in.
        queue = self._openvino.AsyncInferQueue(self._compiled)

        def keep(request: Any, row: int) -> None:
            found[row] = request.get_output_tensor(0).data.reshape(-1)

        queue.set_callback(keep)
        for row, image in enumerate(images):
            sized = cv2.resize(image, self.size[::-1], interpolation=cv2.INTER_LINEAR)
            pixels = sized[..., ::-1] if self.bgr else sized
            queue.start_async({0: np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32)}, row)
        queue.wait_all()
        length = np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-6)
        return np.asarray(found / length, np.float32)


def taught(
    source: Source,
    recipe: TeacherRecipe,
    key: str,
    *,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Source:
    """The source with the teacher's features of all its images, copies in other colours included.

    ``key`` tells the source's pixels apart from all others in the cache.
    """
    teacher = Teacher(recipe)
    digest = hashlib.sha256(json.dumps([key, source.copies, teacher.sha256, teacher.bgr, 1]).encode()).hexdigest()

    def fill(arrays: Arrays) -> None:
        for start in range(0, len(source), _BATCH):
            rows = range(start, min(start + _BATCH, len(source)))
            arrays["features"][rows.start : rows.stop] = teacher(np.stack([source.image(row) for row in rows]))
            if progress:
                progress(rows.stop, len(source))

    folder = (cache or cache_folder()) / "teachers" / f"{source.name}-{digest[:16]}"
    arrays = cached(folder, {"features": ((len(source), teacher.width), np.float16)}, fill)
    fact = f"teacher {teacher.name} (sha256 {teacher.sha256[:8]}): {recipe.note}"
    return replace(source, teacher=arrays["features"], facts=(*source.facts, fact))
