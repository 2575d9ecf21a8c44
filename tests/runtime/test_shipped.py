"""The model that Glimpse ships and serves by default."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from glimpse.bundle import Bundle, open_bundle
from glimpse.runtime import GoldenMismatch, open_session
from glimpse.runtime.gate import Reference
from server.extraction.loading import load_model
from server.settings import ServerSettings, default_model

MOST_BYTES = 20_000_000


@pytest.fixture(scope="module")
def shipped() -> Bundle:
    return open_bundle(default_model())


def test_it_is_small_and_carries_int8_a_reference_and_a_calibration(shipped: Bundle) -> None:
    assert shipped.manifest.name == "glimpse-lite"
    assert sum(map(len, shipped.contents.values())) < MOST_BYTES
    assert shipped.manifest.graphs == ("float32", "int8")
    assert Reference.in_bundle(shipped).queries >= 2000
    calibration = shipped.manifest.calibration
    assert calibration is not None
    # Nearer, and with as much in sight, is likelier the same person.
    assert np.all(np.diff(calibration.probability(np.array([0.1, 0.4, 0.8]), np.full(3, 0.6))) < 0)


def test_its_gate_held_for_every_precision_that_it_carries(shipped: Bundle) -> None:
    for precision in shipped.manifest.graphs:
        entry = shipped.manifest.precisions[precision]
        (figures,) = entry.figures
        assert (figures.precision, figures.queries) == (precision, 2000)
        assert list(figures.problems(entry.limits)) == []
        assert figures.own.mAP_drop <= 0.005


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_every_precision_passes_its_golden_samples_here(shipped: Bundle, precision: str) -> None:
    session = open_session(shipped, "cpu", 1, precision)
    assert session.precision == precision
    assert session.verify().passed
    alone = session.run(shipped.golden().images[:1])
    together = session.run(shipped.golden().images)
    np.testing.assert_allclose(together.vectors[:1], alone.vectors, rtol=0, atol=0 if precision == "int8" else 1e-5)


@pytest.mark.parametrize(("asked", "run"), [("auto", None), ("int8", "int8")])
def test_the_server_runs_it_in_the_precision_asked_for(
    shipped: Bundle, tmp_path: Path, asked: str, run: str | None
) -> None:
    session = load_model(ServerSettings(data=tmp_path, provider="cpu", precision=asked, threads=1))
    assert session.bundle.identity == shipped.identity
    assert session.precision == (run or shipped.manifest.default_precision)


def test_its_int8_graph_runs_in_openvino_too_or_is_refused(shipped: Bundle) -> None:
    """Without VNNI, OpenVINO's int8 sums overflow, otherwise for a batch than for an image alone."""
    pytest.importorskip("openvino")
    refusal = ""
    try:
        session = open_session(shipped, "openvino", 1, "int8")
    except GoldenMismatch as error:
        refusal = str(error)
    if refusal:
        assert "features depend on their batch mates" in refusal
        return
    assert (session.provider, session.precision) == ("openvino", "int8")
    images = shipped.golden().images
    together = session.run(images)
    alone = np.concatenate([session.run(images[row : row + 1]).vectors for row in range(len(images))])
    np.testing.assert_allclose(together.vectors, alone, rtol=0, atol=1e-3)
