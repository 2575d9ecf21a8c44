"""`glimpse evaluate`: bundles and checkpoints to figures, further figures, and a report with its protocol."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import Result

from tests.bundles import HEIGHT, SCHEMA, WIDTH, encoded, person
from tests.trainer.methods.tiny import MAPS, PEOPLE, build, recipe_for
from trainer.checkpoint import save_checkpoint
from trainer.data import find_listing
from trainer.provenance import Provenance, SourceEntry

ROOT = Path(__file__).resolve().parents[2]
TRAINED = Provenance(
    sources=(SourceEntry(name="generated", images=96, identities=12, cameras=4, facts=("drawn",)),),
    fingerprint="0" * 64,
    facts=("8 identities held out",),
    steps=120,
    epochs=2.5,
    hours=0.1,
)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Queries that hide a part of twelve people, and two gallery images of each by other cameras."""
    root = tmp_path_factory.mktemp("people")
    parts = [part for part in SCHEMA.names if part != "global"]
    for identity in range(12):
        for side, shots in (("query", (0,)), ("gallery", (1, 2))):
            for shot in shots:
                hidden = (parts[identity % len(parts)],) if side == "query" else ()
                path = root / side / f"p{identity}" / f"c{shot}_{identity}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encoded(person(identity, shot=shot, hidden=hidden)))
    return root


def checkpoint_of(path: Path, method: str, **options: object) -> Path:
    recipe = recipe_for(method, MAPS if method == "glimpse" else {}, size=(HEIGHT, WIDTH), **options)
    built = build(method, MAPS if method == "glimpse" else {}, size=(HEIGHT, WIDTH), **options)
    about = {"seed": 7, "step": 90, "command": "glimpse train ...", "metrics": {}}
    save_checkpoint(path, built, built.schema, recipe, population=PEOPLE, provenance=TRAINED, **about)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint_of(tmp_path_factory.mktemp("checkpoint") / "checkpoint.pt", "glimpse")


def test_a_bundles_report_holds_everything_that_was_asked_for(
    glimpse: Callable[..., Result], bundle: Path, people: Path, tmp_path: Path
) -> None:
    report = tmp_path / "deep" / "report"
    further = ("--rerank", "--rerank-settings", "4,2,0.3", "--open-set", "--robustness")
    result = glimpse("evaluate", bundle, "--data", f"folder:{people}", *further, "--report", report, "--pictures", "3")
    assert result.exit_code == 0, result.output
    names = {"report.md", "report.json", "robustness.png", "open-set.png", "rankings.png"}
    assert {path.name for path in report.iterdir()} == names  # no attention: a bundle has none
    written = json.loads((report / "report.json").read_text())
    assert list(written["rows"])[:4] == ["weighted", "unweighted", "weighted, re-ranked", "unweighted, re-ranked"]
    assert "4 of 5 parts visible" in written["rows"]
    assert [point["ratio"] for point in written["robustness"]["points"]] == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert set(written["open_set"]) == {"weighted", "unweighted"}
    assert written["model"]["model"].startswith("tiny 1.0.0 (sha ")
    page = (report / "report.md").read_text()
    own = ("k1=4, k2=2, lambda=0.3", "- camera ids: no input of the model", "- seed: ", "- training data: ")
    for fact in (*find_listing(f"folder:{people}").facts, *own):
        assert fact in page, fact
        assert fact in result.output, fact


def test_a_checkpoint_is_evaluated_with_its_facts_and_its_attention(
    glimpse: Callable[..., Result], checkpoint: Path, people: Path, tmp_path: Path
) -> None:
    report, features = tmp_path / "report", tmp_path / "features.npz"
    arguments = ("--data", f"folder:{people}", "--report", report, "--pictures", "2", "--features-out", features)
    result = glimpse("evaluate", checkpoint, *arguments)
    assert result.exit_code == 0, result.output
    assert {path.name for path in report.iterdir()} == {"report.md", "report.json", "rankings.png", "attention.png"}
    model = json.loads((report / "report.json").read_text())["model"]
    assert model["method"] == "glimpse"
    assert model["seed"] == "7"
    assert model["epochs and steps"] == "90 steps of 120 made, 2.5 epochs in all; 0.1 hours on 1 device(s)"
    assert model["training data"] == "generated: 96 images of 12 identities by 4 cameras; drawn"
    assert model["extra inputs"] == "none: images only"
    assert "8 identities held out" in model["backbone"]
    again = glimpse("evaluate", "--features", features, "--json", tmp_path / "again.json")
    assert again.exit_code == 0, again.output
    assert json.loads((tmp_path / "again.json").read_text()) == json.loads((report / "report.json").read_text())


def test_a_model_that_wants_key_points_says_when_it_was_given_none(
    glimpse: Callable[..., Result], people: Path, tmp_path: Path
) -> None:
    posed = checkpoint_of(tmp_path / "pgfa.pt", "pgfa", pose="given")
    result = glimpse("evaluate", posed, "--data", f"folder:{people}")
    assert result.exit_code == 0, result.output
    assert "key-points, but none were given: it saw the whole person everywhere" in result.output


def test_key_points_are_read_from_annotations_and_their_gaps_are_told(
    glimpse: Callable[..., Result], people: Path, tmp_path: Path
) -> None:
    posed = checkpoint_of(tmp_path / "pgfa.pt", "pgfa", pose="given")
    poses = tmp_path / "poses"
    record = {
        "format": 1,
        "writes": ["keypoints"],
        "adapter": "heatmaps17",
        "model": "m.onnx",
        "model_sha256": "ab" * 32,
    }
    joints = [[8.0, 4.0 * joint, 0.9] for joint in range(18)]
    person_file = {"people": [{"pose_keypoints_2d": [value for joint in joints for value in joint]}]}
    poses.mkdir()
    (poses / "annotations.json").write_text(json.dumps(record))
    for image in sorted(people.rglob("*.png"))[1:]:
        path = (poses / "keypoints" / image.relative_to(people)).with_suffix(".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(person_file))
    arguments = ("evaluate", posed, "--data", f"folder:{people}", "--annotations", poses)
    result = glimpse(*arguments)
    assert result.exit_code == 0, result.output
    assert "keypoints: 35 of 36 images; missing gallery/p0/c1_0.png" in result.output
    assert "key-points of every image by heatmaps17 (m.onnx, sha256 abababababab)" in result.output
    refused = glimpse(*arguments, "--robustness")
    assert refused.exit_code == 1
    assert "not for a model that is given key-points" in refused.stderr


def test_a_protocol_of_trials_gives_means_with_their_spread(
    glimpse: Callable[..., Result], bundle: Path, people: Path, tmp_path: Path
) -> None:
    name = f"folder:{people}@shots=1,draw=all"
    result = glimpse("evaluate", bundle, "--data", name, "--json", tmp_path / "mean.json")
    assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "mean.json").read_text())
    assert written["rows"]["weighted"]["queries"] == 120
    assert set(written["spread"]["weighted"]) == {"rank1", "rank5", "rank10", "mAP", "mAP_trapezoidal", "mINP"}
    assert "mean of 10 trials" in result.output
    assert "±" in result.output
    refused = glimpse("evaluate", bundle, "--data", name, "--open-set")
    assert refused.exit_code == 1
    assert "are of one trial" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ([], 2, "give either a model or --features"),
        (["BUNDLE", "--features", "x.npz"], 2, "give either a model or --features"),
        (["--features", "x.npz", "--robustness"], 2, "features cannot be covered"),
        (["BUNDLE", "--rerank", "--rerank-settings", "20,6"], 2, "expected K1,K2,LAMBDA"),
        (["BUNDLE", "--rerank", "--rerank-settings", "5,9,0.3"], 2, "k2 must be within"),
        (["missing-model"], 1, "missing-model"),
        (["TEXT"], 1, "is not a checkpoint of `glimpse train`"),
        (["CHECKPOINT", "--provider", "cpu"], 1, "a checkpoint runs in torch"),
        (["BUNDLE", "--annotations", "poses"], 1, "a bundle takes none"),
        (["CHECKPOINT", "--annotations", "poses"], 1, "Glimpse takes none"),
        (["BUNDLE", "--data", "folder:EMPTY"], 1, "holds no folders with images"),
        (["BUNDLE", "--data", "nonsense"], 1, "unknown data set 'nonsense'"),
        (
            ["BUNDLE", "--data", "folder:STRANGERS"],
            1,
            "none of the 1 queries has an image of its person in the gallery",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_evaluated_is_told_in_a_sentence(
    glimpse: Callable[..., Result],
    bundle: Path,
    checkpoint: Path,
    tmp_path: Path,
    arguments: list[str],
    code: int,
    sentence: str,
) -> None:
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "empty").mkdir()
    for side, identity in (("query", 1), ("gallery", 2)):
        path = tmp_path / "strangers" / side / f"p{identity}" / "1.png"
        path.parent.mkdir(parents=True)
        path.write_bytes(encoded(person(identity)))
    places = {"BUNDLE": bundle, "CHECKPOINT": checkpoint, "TEXT": tmp_path / "text.pt"}
    words = [places.get(word, word) for word in arguments]
    words = [
        str(word).replace("EMPTY", str(tmp_path / "empty")).replace("STRANGERS", str(tmp_path / "strangers"))
        for word in words
    ]
    result = glimpse("evaluate", *words)
    assert result.exit_code == code, result.output
    assert sentence in " ".join(result.stderr.replace("│", " ").split()), result.stderr


def test_a_bundle_needs_no_torch(bundle: Path, people: Path) -> None:
    without = (
        "import sys\n"
        "for name in ('torch', 'timm', 'lightning'): sys.modules[name] = None\n"
        "from glimpse.cli import main\n"
        f"main(['evaluate', {str(bundle)!r}, '--data', 'folder:{people}', '--rerank'])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", without], env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-2_000:]
    assert "by visibility" in run.stdout


def test_evaluating_leaves_the_threads_of_torch_as_asked(
    glimpse: Callable[..., Result], checkpoint: Path, people: Path
) -> None:
    before = torch.get_num_threads()
    try:
        assert glimpse("evaluate", checkpoint, "--data", f"folder:{people}", "--threads", "1").exit_code == 0
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
