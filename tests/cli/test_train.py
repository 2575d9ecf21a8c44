"""`glimpse train` as it is typed: data sets, smoke runs, resumptions, and what it refuses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import Result

import trainer
from trainer.checkpoint import load_checkpoint

assert trainer  # before timm and Lightning: see `trainer.torchvision_guard`

SMALL = [
    f"--set={value}"
    for value in (
        "backbone.name=test_efficientnet",
        "backbone.frozen_stages=0",
        "backbone.strides=[8,16]",
        "preprocessing.height=64",
        "preprocessing.width=32",
        "options.width=16",
        "options.global_dim=12",
        "options.part_dim=6",
    )
]


@pytest.fixture(autouse=True)
def _own_folder_and_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLIMPSE_CACHE", str(tmp_path / "cache"))
    root = logging.getLogger()
    before = list(root.handlers)
    root.handlers = []  # or `basicConfig` does nothing
    yield
    root.handlers = before
    logging.getLogger("glimpse.train").setLevel(logging.NOTSET)


@pytest.fixture
def market(tmp_path: Path) -> Path:
    """A training part in Market-1501's names: 30 people of flat colours by two cameras."""
    folder = tmp_path / "market" / "bounding_box_train"
    folder.mkdir(parents=True)
    for person in range(1, 31):
        colours = np.random.default_rng(person).integers(0, 256, (4, 1, 3)).repeat(16, axis=0).repeat(32, axis=1)
        for camera in (1, 2):
            for shot in (1, 2):
                path = folder / f"{person:04d}_c{camera}s1_{shot:06d}_00.jpg"
                cv2.imwrite(str(path), np.clip(colours + 8 * camera, 0, 255).astype(np.uint8))
    return folder.parent


def test_photographs_and_generated_people_train_together(
    glimpse: Callable[..., Result], market: Path, tmp_path: Path
) -> None:
    data = ["--data", f"market1501:{market}", "--data", "generated"]
    result = glimpse("train", "--recipe", "glimpse-baseline", *data, "--smoke", *SMALL)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == "checkpoints/glimpse-baseline-smoke/checkpoint.pt"
    assert "smoke: test_efficientnet begins with random weights" in result.stderr
    kept = load_checkpoint(Path(result.stdout.strip()))
    assert [source.name for source in kept.provenance.sources] == ["market1501", "generated"]
    assert "research only" in kept.provenance.sources[0].facts[-1]
    assert {"validation_mAP", "validation_mAP_2"} <= set(kept.metrics)


def test_an_image_that_cannot_be_decoded_is_named(glimpse: Callable[..., Result], market: Path) -> None:
    broken = sorted(market.glob("*/*"))[11]
    broken.write_bytes(broken.read_bytes()[:60])
    result = glimpse("train", "--recipe", "glimpse-baseline", "--data", f"market1501:{market}", "--smoke", *SMALL)
    assert result.exit_code == 1
    assert broken.name in result.stderr


def test_an_unfinished_run_is_neither_lost_nor_resumed_unasked(glimpse: Callable[..., Result], tmp_path: Path) -> None:
    from tests.trainer.test_loop_resume import KillAt, Killed, run
    from tests.trainer.tiny import tiny_recipe

    with pytest.raises(Killed):
        run(tiny_recipe(), tmp_path / "run", callbacks=[KillAt(4)])
    before = (tmp_path / "run" / "last.pt").read_bytes()
    result = glimpse("train", "--recipe", "glimpse-baseline", "--out", "run")
    assert result.exit_code == 1
    assert "run holds an unfinished run, step 3 of 7: --resume goes on with it, --restart discards it" in result.stderr
    result = glimpse("train", "--recipe", "glimpse-baseline", "--out", "run", "--resume")
    assert result.exit_code == 1
    assert "method was 'tiny', is 'glimpse'" in result.stderr
    assert (tmp_path / "run" / "last.pt").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--resume"], "there is nothing to resume; leave out --resume to start"),
        (["--data", "nowhere:here"], "unknown data set 'nowhere'"),
        (["--data", "market1501:missing"], "missing"),
        (["--set", "schedule.stepz=3"], "unknown key 'schedule.stepz'"),
        (["--set", "backbone.name=resnet5", "--smoke"], "unknown backbone 'resnet5'"),
    ],
)
def test_what_cannot_be_trained_is_said_in_a_sentence(
    glimpse: Callable[..., Result], arguments: list[str], sentence: str
) -> None:
    result = glimpse("train", "--recipe", "glimpse-baseline", *arguments)
    assert result.exit_code == 1
    assert sentence in result.stderr.replace("\n", " ")
    assert "Traceback" not in result.stderr
