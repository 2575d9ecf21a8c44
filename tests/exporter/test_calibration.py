"""Features to a calibration with thresholds and figures on people that nothing was chosen on, and into a bundle."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.calibration import CalibrationReport, calibrate, store
from exporter.calibration_report import to_markdown, write_report
from exporter.pairs import CalibrationError, halve, people_of, take_pairs
from exporter.thresholds import gallery_thresholds, rate_thresholds
from glimpse.bundle import BundleError, open_bundle
from glimpse.calibration import with_prior
from tests.bundles import tiny_bundle
from tests.exporter.people import SCHEMA, extraction
from trainer.data.listing import Shots
from trainer.evaluation.features import Extraction

SHA = "0" * 64


@pytest.fixture(scope="module")
def made() -> Extraction:
    return extraction(100)


@pytest.fixture(scope="module")
def report(made: Extraction) -> CalibrationReport:
    return calibrate(made, SHA, prior=0.05, galleries=[200], command="glimpse calibrate made-up")


def test_probabilities_are_right_on_people_held_out(made: Extraction, report: CalibrationReport) -> None:
    assert report.reliability.ece < 0.06
    assert report.reliability.ece_stated < 0.03
    chosen = next(one for one in report.candidates if one.chosen)
    assert chosen.held_out is not None
    assert chosen.held_out < 0.5 * report.prior_loss
    held = halve(people_of(made.query, made.gallery), 0)[1]
    pairs = take_pairs(made.query, made.gallery, held, 0)
    chance = report.calibration.probability(pairs.distance, pairs.joint)
    weight = pairs.under(0.05)
    assert float(weight @ chance) == pytest.approx(0.05, rel=0.3)  # as many expected as there are


def test_the_way_to_fit_is_chosen_by_cross_validated_loss(report: CalibrationReport) -> None:
    losses = {one.name: one.cross_validated for one in report.candidates if one.cross_validated is not None}
    (chosen,) = [one.name for one in report.candidates if one.chosen]
    assert chosen == min(losses, key=losses.__getitem__)
    assert len(losses) >= 3


def test_a_calibration_says_what_it_is_of(made: Extraction, report: CalibrationReport) -> None:
    calibration = report.calibration
    assert calibration.fits(SCHEMA)
    assert calibration.prior == 0.05
    assert calibration.source.command == "glimpse calibrate made-up"
    counts = calibration.source.counts
    assert counts["fit_people"] == counts["held_out_people"] == 50
    assert counts["fit_same"] + counts["held_out_same"] == sum(
        int(((made.gallery.people == who) & (made.gallery.cameras != camera)).sum())
        for who, camera in zip(made.query.people, made.query.cameras, strict=True)
    )
    assert any("50 people to fit and choose thresholds on, 50 others" in fact for fact in calibration.source.facts)


def test_the_seed_decides_everything(made: Extraction, report: CalibrationReport) -> None:
    again = calibrate(made, SHA, prior=0.05, galleries=[200], command="glimpse calibrate made-up")
    assert again.calibration.log_likelihood_ratio == report.calibration.log_likelihood_ratio
    assert again.calibration.thresholds == report.calibration.thresholds
    other = calibrate(made, SHA, prior=0.05, seed=1)
    assert other.calibration.log_likelihood_ratio != report.calibration.log_likelihood_ratio


def test_another_stated_prior_moves_the_odds_by_its_own(made: Extraction, report: CalibrationReport) -> None:
    here = report.calibration.probability([0.2, 0.6, 1.0], 0.5)
    there = report.calibration.probability([0.2, 0.6, 1.0], 0.5, prior=0.5)
    np.testing.assert_allclose(with_prior(here, 0.05, 0.5), there, rtol=1e-3)
    assert (there > here).all()


def test_thresholds_keep_their_rate_where_they_were_chosen_and_about_it_elsewhere(made: Extraction) -> None:
    mine, others = halve(people_of(made.query, made.gallery), 0)
    fit, held = (take_pairs(made.query, made.gallery, some, 0) for some in (mine, others))
    found, facts = rate_thresholds(fit, held, (0.01, 0.1, 1e-4), 0)
    assert [row.false_match_rate for row in found] == [0.1, 0.01]
    for row in found:
        strangers = np.sort(fit.distance[~fit.same])
        accepted = np.searchsorted(strangers, np.float32(row.distance), side="right")
        assert accepted <= row.false_match_rate * len(strangers) < accepted + 1
        assert row.low <= row.distance <= row.high
        assert row.held_out_low <= row.held_out_rate <= row.held_out_high
        assert row.held_out_rate < 2.5 * row.false_match_rate
        own = held.distance[held.same]
        assert row.held_out_found == pytest.approx(float((own <= row.distance).mean()))
    assert found[0].distance > found[1].distance
    (fact,) = facts
    assert f"1e-04: it needs 100,000 pairs of two people, the fit has {fit.different:,.0f}" in fact.replace(
        "0.0001", "1e-04"
    )


def test_larger_galleries_need_smaller_distances(made: Extraction, report: CalibrationReport) -> None:
    rows = [row for row in report.calibration.gallery_thresholds if row.fpir == 0.1]
    assert [row.people for row in rows] == [25, 200]
    assert [row.extrapolated for row in rows] == [False, True]
    assert rows[0].distance > rows[1].distance
    assert rows[0].held_out_fpir is not None
    assert 0.02 < rows[0].held_out_fpir < 0.3
    assert rows[1].held_out_fnir is None
    mine, _ = halve(people_of(made.query, made.gallery), 0)
    _, facts = gallery_thresholds(made.query, made.gallery, mine, [100_000], [0.01], 0)
    assert "no threshold for FPIR 0.01 at 100,000 people: 100 people and 200 searches are too few to tell" in facts


def one_camera(made: Extraction) -> Extraction:
    sides = [replace(side, cameras=np.full(len(side), 7)) for side in (made.query, made.gallery)]
    return replace(made, query=sides[0], gallery=sides[1])


def several_shots(made: Extraction) -> Extraction:
    return replace(made, shots=Shots(np.arange(len(made.query)) // 2, "min"))


def few_people(made: Extraction) -> Extraction:
    return replace(made, query=made.query.take(np.flatnonzero(made.query.people < 19)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (one_camera, r"all 600 images are by camera 7: a calibration needs people seen by two cameras"),
        (few_people, "19 people are seen by one camera in the queries and by another in the gallery; .* at least 20"),
        (several_shots, "a calibration is of queries of one image; these have several"),
    ],
)
def test_data_without_a_calibration_in_it_are_refused(made: Extraction, change: Any, message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        calibrate(change(made), SHA)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prior": 0.0}, "a prior is the share of same-person pairs"),
        ({"prior": 1.5}, "a prior is the share of same-person pairs"),
        ({"rates": [0.01, 1.0]}, r"must be within \(0, 1\), got 1.0"),
        ({"fpirs": [0.0]}, r"must be within \(0, 1\), got 0.0"),
        ({"galleries": [0]}, "a gallery has at least one person, got 0"),
    ],
)
def test_numbers_out_of_range_are_refused(made: Extraction, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        calibrate(made, SHA, **options)


def test_twenty_people_are_enough() -> None:
    report = calibrate(extraction(20), SHA)
    assert report.calibration.source.counts["fit_people"] == 10
    assert report.unsupported


def test_a_bundle_gets_its_calibration_and_keeps_its_files(report: CalibrationReport, tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "tiny")
    ours = replace(
        report,
        calibration=report.calibration.model_copy(
            update={
                "model_sha256": bundle.identity.sha256,
                "parts": {part.name: part.weight for part in bundle.schema.parts},
                "distance_prior": bundle.schema.prior,
            }
        ),
    )
    for target in (tmp_path / "other.zip", bundle.source):  # in place last
        written = store(ours, open_bundle(bundle.source), target)
        assert open_bundle(target).manifest.calibration == ours.calibration
        assert written.manifest.files == bundle.manifest.files
        assert written.contents == bundle.contents
        assert written.manifest.provenance == bundle.manifest.provenance
    again = store(ours, open_bundle(bundle.source), bundle.source)  # a calibration is replaced
    assert again.manifest.calibration == ours.calibration
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.zip", "tiny"]
    with pytest.raises(BundleError, match="calibration is of another schema"):
        store(report, open_bundle(bundle.source), bundle.source)
    assert open_bundle(bundle.source).manifest.calibration == ours.calibration


def test_the_report_has_every_table_and_a_picture(report: CalibrationReport, tmp_path: Path) -> None:
    names = write_report(report, tmp_path / "report")
    assert sorted(names) == sorted(path.name for path in (tmp_path / "report").iterdir())
    assert (tmp_path / "report" / "reliability.png").read_bytes().startswith(b"\x89PNG")
    written = json.loads((tmp_path / "report" / "calibration.json").read_text())
    assert written["calibration"]["prior"] == 0.05
    assert [row["name"] for row in written["candidates"]] == [one.name for one in report.candidates]
    page = to_markdown(report)
    for words in (
        "pi = 0.05",
        "## Ways to fit",
        "## Calibration error by visible evidence",
        "## Thresholds for false matches among pairs",
        "## Thresholds for a gallery of N people",
        "| 200 | 0.1 |",
        "extrapolated |",
        "- vectors with noise",
        "- no threshold for a false-match rate of 0.0001",
        "- made by: glimpse calibrate made-up (seed 0",
    ):
        assert words in page, words
