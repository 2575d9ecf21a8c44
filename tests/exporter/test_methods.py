"""The graph of every method, at batches of 1, 2, 7 and 32, against torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest

from exporter.graph import BATCHES, check_parity, export_graph
from tests.trainer.batches import random_images
from tests.trainer.methods.tiny import CNN, build, recipe_for
from trainer.methods import METHODS

SIZE = (112, 48)  # 7 cells high, which neither 3 nor 6 stripes divide
OPTIONS: dict[str, dict[str, Any]] = {
    "bot": {},
    "afpb": {},
    "pgfa": {"pose": "given"},  # without points it sees the whole person everywhere
    "isp": {"width": 16},
    "fed": {},
    "mspr": {},
    "glimpse": {"width": 16, "global_dim": 12, "part_dim": 6},
}


def test_every_method_is_here() -> None:
    # Tests of the loop add a method of their own.
    assert set(OPTIONS) == {name for name, spec in METHODS.items() if spec.target.startswith("trainer.")}
    assert BATCHES == (1, 2, 7, 32)


@pytest.mark.parametrize("method", OPTIONS)
def test_a_methods_graph_computes_what_torch_does(method: str) -> None:
    backbone = {"name": "test_vit", "strides": [16]} if method == "fed" else CNN
    recipe = recipe_for(method, backbone, size=SIZE, **OPTIONS[method])
    built = build(method, backbone, size=SIZE, **OPTIONS[method]).eval()
    graph = export_graph(built, recipe.preprocessing, {})
    images = random_images(5, *SIZE).numpy()
    report = check_parity(built, graph, images)
    assert report.min_cosine > 0.99999
    assert report.batch_mate_difference <= 1e-5
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    assert [item.name for item in session.get_inputs()] == ["images"]
    assert np.isfinite(session.run(["vectors"], {"images": images})[0]).all()
