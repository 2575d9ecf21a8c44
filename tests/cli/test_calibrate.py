"""`glimpse calibrate`: a bundle gets its probabilities, in place or elsewhere, and a report; refusals are sentences."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from glimpse.bundle import open_bundle
from tests.bundles import SCHEMA, encoded, person

ROOT = Path(__file__).resolve().parents[2]
PEOPLE = 24


def folder_of(root: Path, people: int = PEOPLE, cameras: int = 3) -> Path:
    """A query that hides a part of each person, and two gallery images by other cameras."""
    parts = [part for part in SCHEMA.names if part != "global"]
    for identity in range(people):
        for shot, side in enumerate(("query", "gallery", "gallery")):
            hidden = (parts[identity % len(parts)],) if side == "query" else ()
            path = root / side / f"p{identity}" / f"c{shot % cameras}_{shot}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(person(identity, shot=shot, hidden=hidden)))
    return root


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"folder:{folder_of(tmp_path_factory.mktemp('people'))}"


@pytest.fixture
def own(bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may rewrite."""
    return Path(shutil.copytree(bundle, tmp_path / "own"))


def test_a_bundle_is_calibrated_in_place_and_reported(
    glimpse: Callable[..., Result], own: Path, people: str, tmp_path: Path
) -> None:
    before = open_bundle(own)
    report = tmp_path / "report"
    result = glimpse("calibrate", own, "--data", people, "--prior", "0.05", "--report", report, "--rate", "0.05")
    assert result.exit_code == 0, result.output
    after = open_bundle(own)
    calibration = after.manifest.calibration
    assert calibration is not None
    assert (calibration.prior, calibration.source.counts["fit_people"]) == (0.05, 12)
    assert calibration.source.command == f"glimpse calibrate own --data {people} --prior 0.05 --seed 0 --rate 0.05"
    assert [row.false_match_rate for row in calibration.thresholds] == [0.05]
    near, far = calibration.probability([0.05, 1.2], 0.8)
    assert near > 0.5 > far
    assert after.contents == before.contents
    assert {path.name for path in report.iterdir()} == {"calibration.json", "calibration.md", "reliability.png"}
    for page in (result.output, (report / "calibration.md").read_text()):
        assert "12 people to fit and choose thresholds on, 12 others to measure on (seed 0)" in page
        assert "Thresholds for false matches among pairs" in page
    shown = glimpse("model", "show", own).stdout
    assert "isotonic on folder" in shown or "logistic on folder" in shown
    assert f"distance {calibration.thresholds[0].distance:.4f}" in shown
    assert json.loads((report / "calibration.json").read_text())["model"]["model"].startswith("tiny 1.0.0")


def test_the_python_of_the_page_runs(
    glimpse: Callable[..., Result], own: Path, people: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert glimpse("calibrate", own, "--data", people, "--out", tmp_path / "models" / "ours.zip").exit_code == 0
    (example,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/calibration.md").read_text(), re.DOTALL | re.M)
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(compile(example, "calibration.md", "exec"), found)
    assert found["calibration"].prior == 0.01


def test_it_is_written_elsewhere_or_nowhere_when_asked(
    glimpse: Callable[..., Result], own: Path, people: str, tmp_path: Path
) -> None:
    manifest = (own / "manifest.json").read_bytes()
    assert glimpse("calibrate", own, "--data", people, "--out", tmp_path / "new.zip").exit_code == 0
    assert open_bundle(tmp_path / "new.zip").manifest.calibration is not None
    dry = glimpse("calibrate", own, "--data", people, "--dry-run")
    assert dry.exit_code == 0
    assert "Calibration error by visible evidence" in dry.stdout
    assert (own / "manifest.json").read_bytes() == manifest


def test_features_of_the_bundle_give_the_same_calibration(
    glimpse: Callable[..., Result], own: Path, people: str, tmp_path: Path
) -> None:
    features = tmp_path / "features.npz"
    assert glimpse("evaluate", own, "--data", people, "--features-out", features).exit_code == 0
    for name, source in (("a.zip", ("--data", people)), ("b.zip", ("--features", features))):
        result = glimpse("calibrate", own, *source, "--out", tmp_path / name)
        assert result.exit_code == 0, result.output
    first, second = (open_bundle(tmp_path / name).manifest.calibration for name in ("a.zip", "b.zip"))
    assert first is not None
    assert second is not None
    assert first.log_likelihood_ratio == second.log_likelihood_ratio
    from tests.bundles import tiny_bundle

    other = tiny_bundle(tmp_path / "other", seed=1)
    refused = glimpse("calibrate", other.source, "--features", features)
    assert refused.exit_code == 1
    assert "holds features of tiny 1.0.0" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ([], 2, "give either --data NAME[:PATH] or --features FILE.npz"),
        (["--data", "DATA", "--features", "x.npz"], 2, "give either --data NAME[:PATH] or --features FILE.npz"),
        (["--data", "DATA", "--prior", "0"], 1, "a prior is the share of same-person pairs, within (0, 1)"),
        (["--data", "DATA", "--prior", "1.2"], 1, "got 1.2"),
        (["--data", "DATA", "--rate", "2"], 1, "must be within (0, 1), got 2.0"),
        (["--data", "DATA", "--gallery", "0"], 1, "a gallery has at least one person, got 0"),
        (["--data", "DATA@shots=1"], 1, "a calibration is of queries of one image"),
        (["--data", "DATA", "--limit", "10"], 1, "10 people are seen by one camera"),
        (["--data", "FEW"], 1, "a calibration needs at least 20"),
        (["--data", "nonsense"], 1, "unknown data set 'nonsense'"),
        (["--features", "MISSING"], 1, "is not a features file of `glimpse evaluate --features-out`"),
        (["--data", "DATA", "--out", "TAKEN"], 1, "exists and is not a bundle"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_calibrated_is_told_in_a_sentence(
    glimpse: Callable[..., Result],
    own: Path,
    people: str,
    tmp_path: Path,
    arguments: list[str],
    code: int,
    sentence: str,
) -> None:
    manifest = (own / "manifest.json").read_bytes()
    places = {"FEW": f"folder:{tmp_path / 'few'}", "MISSING": str(tmp_path / "x.npz"), "TAKEN": str(tmp_path / "few")}
    if "FEW" in arguments or "TAKEN" in arguments:
        folder_of(tmp_path / "few", 5)
    words = [places.get(word, word.replace("DATA", people)) for word in arguments]
    result = glimpse("calibrate", own, *words)
    assert result.exit_code == code, result.output
    assert sentence in " ".join(result.stderr.replace("│", " ").split()), result.stderr
    assert (own / "manifest.json").read_bytes() == manifest


def test_people_of_one_camera_are_refused(glimpse: Callable[..., Result], own: Path, tmp_path: Path) -> None:
    table = tmp_path / "people.csv"
    lines = ["path,person_id,camera_id,split"]
    folder_of(tmp_path / "images", cameras=1)
    for path in sorted((tmp_path / "images").rglob("*.png")):
        split = path.parts[-3]
        lines.append(f"{path.relative_to(tmp_path)},{path.parts[-2]},c7,{split}")
    table.write_text("\n".join(lines) + "\n")
    result = glimpse("calibrate", own, "--data", f"csv:{table}")
    assert result.exit_code == 1
    assert "camera" in result.stderr


def test_calibrating_needs_no_torch(own: Path, people: str) -> None:
    script = (
        # SciPy looks for torch among the loaded modules: there may be no entry, not even None.
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in ('torch', 'timm', 'lightning', 'grpc'): raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from glimpse.cli import main\n"
        f"main(['calibrate', {str(own)!r}, '--data', {people!r}])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-2_000:]
    assert open_bundle(own).manifest.calibration is not None
