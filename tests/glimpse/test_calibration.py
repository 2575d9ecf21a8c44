"""`glimpse.calibration`: the stored mapping, its evaluation, priors, and what a bundle refuses."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from glimpse.bundle import BundleError, open_bundle, write_bundle
from glimpse.calibration import Calibration, check_prior, with_prior
from glimpse.parts import PartSchema
from tests.bundles import SCHEMA, tiny_bundle
from tests.glimpse.calibrations import calibration_fields, calibration_of


def test_likelihood_ratio_and_prior_give_bayes_rule() -> None:
    calibration = calibration_of(SCHEMA, "0" * 64, prior=0.01)
    ratio = math.exp(calibration.log_ratio(0.3, 0.4))
    assert calibration.probability(0.3, 0.4) == pytest.approx(0.01 * ratio / (0.01 * ratio + 0.99), rel=1e-6)
    assert calibration.probability(0.3, 0.4, prior=0.2) == pytest.approx(0.2 * ratio / (0.2 * ratio + 0.8), rel=1e-6)


def test_nodes_have_their_values_and_between_them_it_is_bilinear() -> None:
    calibration = calibration_of(SCHEMA, "0" * 64)
    for j, row in zip(calibration.joint_visibility, calibration.log_likelihood_ratio, strict=True):
        np.testing.assert_allclose(calibration.log_ratio(calibration.distance, j), row)
    (a, b), (c, d) = (row[:2] for row in calibration.log_likelihood_ratio[:2])
    middle = [(one + other) / 2 for one, other in (calibration.distance[:2], calibration.joint_visibility[:2])]
    assert calibration.log_ratio(*middle) == pytest.approx((a + b + c + d) / 4)


def test_beyond_the_nodes_the_ratio_stays_and_one_evidence_is_enough() -> None:
    calibration = calibration_of(SCHEMA, "0" * 64)
    first, last = calibration.log_likelihood_ratio[0], calibration.log_likelihood_ratio[-1]
    assert calibration.log_ratio(0.0, 0.0) == first[0]
    assert calibration.log_ratio(2.0, 1.0) == last[-1]
    flat = calibration_of(SCHEMA, "0" * 64, joint_visibility=(0.7,), log_likelihood_ratio=((4.0, 1.0, -3.0),))
    np.testing.assert_array_equal(flat.log_ratio([0.1, 0.1], [0.0, 1.0]), [4.0, 4.0])


def test_an_incomparable_pair_has_no_probability() -> None:
    chance = calibration_of(SCHEMA, "0" * 64).probability([0.2, np.nan, 0.9], [0.5, 0.0, 1.0])
    assert chance.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(chance), [False, True, False])


rows = st.lists(st.floats(-39, 39), min_size=3, max_size=3).map(lambda row: sorted(row, reverse=True))


@settings(deadline=None)
@given(rows, rows, st.floats(0, 1), st.floats(1e-6, 1 - 1e-6))
def test_probability_never_grows_with_the_distance(
    first: list[float], second: list[float], joint: float, prior: float
) -> None:
    calibration = calibration_of(SCHEMA, "0" * 64, log_likelihood_ratio=(first, second))
    chance = calibration.probability(np.linspace(0, 2, 101), joint, prior=prior)
    assert ((chance >= 0) & (chance <= 1)).all()
    assert all(later <= earlier + 1e-6 for earlier, later in pairwise(chance.tolist()))


@settings(deadline=None)
@given(st.floats(-30, 30), st.floats(1e-6, 1 - 1e-6), st.floats(1e-6, 1 - 1e-6))
def test_another_prior_needs_the_probability_alone(ratio: float, stated: float, own: float) -> None:
    def bayes(prior: float) -> float:
        return prior * math.exp(ratio) / (prior * math.exp(ratio) + 1 - prior)

    assert with_prior(bayes(stated), stated, own) == pytest.approx(bayes(own), rel=1e-3, abs=1e-9)


def test_saturated_and_missing_probabilities_survive_another_prior() -> None:
    np.testing.assert_array_equal(with_prior([0.0, 1.0, np.nan], 0.01, 0.5), [0.0, 1.0, np.nan])


@pytest.mark.parametrize("prior", [0.0, 1.0, -0.1, 1.1, math.nan, math.inf])
def test_a_prior_lies_between_0_and_1(prior: float) -> None:
    calibration = calibration_of(SCHEMA, "0" * 64)
    for refused in (
        lambda: check_prior(prior),
        lambda: calibration.probability(0.1, 0.1, prior=prior),
        lambda: with_prior(0.5, prior, 0.5),
        lambda: with_prior(0.5, 0.5, prior),
    ):
        with pytest.raises(ValueError, match="a prior is the share of same-person pairs"):
            refused()


def test_probabilities_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"within \[0, 1\], got -0.1 to 0.5"):
        with_prior([0.5, -0.1], 0.5, 0.1)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"log_likelihood_ratio": ((1, 2, 0), (3, 2, 1))}, "must not grow with the distance, but does at joint 0.2"),
        ({"log_likelihood_ratio": ((3, 2, 1),)}, "must be 2 rows .* of 3"),
        ({"log_likelihood_ratio": ((3, 2), (3, 2))}, r"got 2 rows of \[2\]"),
        ({"log_likelihood_ratio": ((99, 2, 1), (3, 2, 1))}, "within 40 of 0, got 99"),
        ({"log_likelihood_ratio": ((math.nan, 2, 1), (3, 2, 1))}, "finite number"),
        ({"distance": (0.1, 0.1, 0.5)}, r"distance must be ascending nodes within \[0, 2\]"),
        ({"distance": (0.1, 0.2, 2.5)}, r"distance must be ascending nodes within \[0, 2\]"),
        ({"joint_visibility": (0.9, 0.2)}, r"joint_visibility must be ascending nodes within \[0, 1\]"),
        ({"distance": (0.1,)}, "at least 2"),
        ({"prior": 1.0}, "prior\n.*less than 1"),
        ({"prior": 0.0}, "prior\n.*greater than 0"),
        ({"kind": "beta"}, "'isotonic' or 'logistic'"),
        ({"format": 2}, "format\n.*should be 1"),
        ({"unheard": 1}, "unheard"),
        ({"model_sha256": "abc"}, "model_sha256"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_a_table_that_is_none_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Calibration.model_validate({**calibration_fields(SCHEMA, "0" * 64), **changes})


@pytest.fixture
def rewritten(tmp_path: Path) -> Callable[[dict[str, Any]], Any]:
    bundle = tiny_bundle(tmp_path / "plain")

    def write(fields: dict[str, Any]) -> Any:
        manifest = bundle.manifest.model_dump(mode="json", by_alias=True, exclude={"files"})
        return write_bundle(tmp_path / "calibrated.zip", {**manifest, "calibration": fields}, bundle.contents)

    write.sha = bundle.identity.sha256  # type: ignore[attr-defined]
    return write


def test_a_bundle_keeps_its_calibration(rewritten: Any) -> None:
    fields = calibration_fields(SCHEMA, rewritten.sha)
    opened = open_bundle(rewritten(fields).source)
    assert opened.manifest.calibration == Calibration.model_validate(fields)


def test_a_calibration_of_another_schema_or_model_is_refused(rewritten: Any) -> None:
    heavier = PartSchema(SCHEMA.parts, prior=0.2)
    with pytest.raises(BundleError, match=r"of another schema: .* with prior 0.2, the model's are .* with prior 0.1"):
        rewritten(calibration_fields(heavier, rewritten.sha))
    fewer = PartSchema(SCHEMA.parts[:3], prior=SCHEMA.prior)
    with pytest.raises(
        BundleError, match=r"global 1, head 1, upper 1 with prior 0.1, the model's are global 1, head 1"
    ):
        rewritten(calibration_fields(fewer, rewritten.sha))
    with pytest.raises(BundleError, match="calibration is of the model with sha aaaaaaaa, this one has sha"):
        rewritten(calibration_fields(SCHEMA, "a" * 64))


def test_a_tampered_calibration_is_refused_when_the_bundle_opens(rewritten: Any, tmp_path: Path) -> None:
    bundle = rewritten(calibration_fields(SCHEMA, rewritten.sha))
    manifest = json.loads(json.dumps(bundle.manifest.model_dump(mode="json", by_alias=True)))
    manifest["calibration"]["log_likelihood_ratio"][0][0] = -9
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for name, data in bundle.contents.items():
        (folder / name).write_bytes(data)
    with pytest.raises(BundleError, match="must not grow with the distance"):
        open_bundle(folder)


def test_weights_that_went_over_the_wire_are_the_same_weights() -> None:
    from dataclasses import replace

    parts = tuple(replace(part, weight=0.3) for part in SCHEMA.parts)
    calibration = calibration_of(PartSchema(parts, 0.1), "0" * 64)
    wired = tuple(replace(part, weight=float(np.float32(0.3))) for part in parts)
    assert calibration.fits(PartSchema(wired, float(np.float32(0.1))))
    assert not calibration.fits(PartSchema(wired, 0.11))
    assert not calibration.fits(PartSchema(wired[::-1], 0.1))
