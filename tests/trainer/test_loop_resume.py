"""A run that was killed and resumed equals one that was not, and only the same run is resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch

from tests.trainer.sources import banded_listing, banded_people
from tests.trainer.tiny import tiny_recipe
from trainer.checkpoint import CheckpointError, load_checkpoint
from trainer.loop import TrainingError, fit
from trainer.loop.state import LAST, read_state
from trainer.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]


class Killed(Exception):
    pass


class KillAt(L.Callback):
    """Stops the run right after a step, before anything of it is kept; ``hard`` is ``kill -9``."""

    def __init__(self, step: int, hard: bool = False) -> None:
        self.step, self.hard = step, hard

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        if module.step == self.step:
            if self.hard:
                os.kill(os.getpid(), signal.SIGKILL)
            raise Killed


def run(recipe: Recipe, out: Path, **options: Any) -> Path:
    source = options.pop("source", None) or banded_people()
    return fit(recipe, out, [source], [banded_listing()], seed=options.pop("seed", 5), progress=False, **options)


def assert_equal(first: Any, second: Any, where: str) -> None:
    """Tensors to the bit, everything else by value."""
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_equal(first[key], second[key], f"{where}.{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for i, (left, right) in enumerate(zip(first, second, strict=True)):
            assert_equal(left, right, f"{where}[{i}]")
    else:
        assert first == second, where


def assert_same_end(unbroken: Path, resumed: Path) -> None:
    left, right = read_state(unbroken), read_state(resumed)
    for key in ("step", "best", "weights", "buffers", "optimiser", "rates", "random", "pseudo"):
        assert_equal(left[key], right[key], key)
    if left["pseudo"]:
        np.testing.assert_array_equal(np.load(unbroken / left["pseudo"]), np.load(resumed / right["pseudo"]))
    first, second = load_checkpoint(unbroken / "checkpoint.pt"), load_checkpoint(resumed / "checkpoint.pt")
    assert_equal(first.weights, second.weights, "checkpoint.pt")
    assert (first.step, first.metrics, first.schema) == (second.step, second.metrics, second.schema)


# Two steps an epoch; states are kept at the start and at steps 3, 6 and 7.
@pytest.mark.parametrize(
    ("step", "kept"), [(1, 0), (4, 3), (7, 6)], ids=["at-once", "within-an-epoch", "between-two-epochs"]
)
def test_a_killed_and_resumed_run_equals_an_unbroken_one(step: int, kept: int, tmp_path: Path) -> None:
    recipe = tiny_recipe()
    run(recipe, tmp_path / "unbroken")
    with pytest.raises(Killed):
        run(recipe, tmp_path / "broken", callbacks=[KillAt(step)])
    assert read_state(tmp_path / "broken")["step"] == kept
    run(recipe, tmp_path / "broken", resume=True)
    assert_same_end(tmp_path / "unbroken", tmp_path / "broken")


@pytest.mark.parametrize(
    "schedule",
    [
        {"accumulate": 2, "workers": 2},
        {"precision": "bf16", "optimiser": "sgd", "decay": "multistep", "milestones": [0.5]},
        {"sampling": "uniform", "optimiser": "adam"},
    ],
    ids=["accumulate-and-workers", "bf16-sgd-multistep", "uniform-adam"],
)
def test_it_does_so_under_every_kind_of_schedule(schedule: dict[str, Any], tmp_path: Path) -> None:
    recipe = tiny_recipe(**schedule)
    run(recipe, tmp_path / "unbroken")
    with pytest.raises(Killed):
        run(recipe, tmp_path / "broken", callbacks=[KillAt(5)])
    run(recipe, tmp_path / "broken", resume=True)
    assert_same_end(tmp_path / "unbroken", tmp_path / "broken")


def test_it_does_so_where_no_epoch_pauses_the_loader(tmp_path: Path) -> None:
    recipe = tiny_recipe(options={"clusters": False}, workers=1)
    run(recipe, tmp_path / "unbroken")
    with pytest.raises(Killed):
        run(recipe, tmp_path / "broken", callbacks=[KillAt(5)])
    run(recipe, tmp_path / "broken", resume=True)
    assert_same_end(tmp_path / "unbroken", tmp_path / "broken")


def test_a_run_killed_by_the_system_resumes_as_well(tmp_path: Path) -> None:
    """Each run in a process of its own, as a user's are."""
    script = (
        "import sys; from pathlib import Path; import trainer\n"
        "from tests.trainer.test_loop_resume import KillAt, run, tiny_recipe\n"
        "out, how = Path(sys.argv[1]), sys.argv[2]\n"
        "run(tiny_recipe(), out, callbacks=[KillAt(5, hard=True)] if how == 'killed' else [], resume=how == 'resumed')"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    for out, how, code in (
        ("broken", "killed", -signal.SIGKILL), ("broken", "resumed", 0), ("unbroken", "unbroken", 0)
    ):  # fmt: skip
        ended = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / out), how],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert ended.returncode == code, ended.stderr[-2_000:]
    assert_same_end(tmp_path / "unbroken", tmp_path / "broken")


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    recipe = tiny_recipe(steps=2)
    first = load_checkpoint(run(recipe, tmp_path))
    again = load_checkpoint(run(recipe, tmp_path, resume=True))
    assert_equal(first.weights, again.weights, "weights")
    assert first.metrics == again.metrics


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("begun")
    with pytest.raises(Killed):
        run(tiny_recipe(), out, callbacks=[KillAt(4)])
    return out


def test_a_changed_recipe_is_not_resumed(begun: Path) -> None:
    changed = tiny_recipe(steps=9, learning_rate=0.02)
    with pytest.raises(
        TrainingError, match=r"schedule\.learning_rate was 0\.01, is 0\.02; schedule\.steps was 7, is 9"
    ):
        run(changed, begun, resume=True)


def test_a_changed_seed_is_not_resumed(begun: Path) -> None:
    with pytest.raises(TrainingError, match="seed was 5, is 6"):
        run(tiny_recipe(), begun, seed=6, resume=True)


def test_a_changed_number_of_classes_is_not_resumed(begun: Path) -> None:
    with pytest.raises(TrainingError, match=r"population\.identities was 12, is 13"):
        run(tiny_recipe(), begun, source=banded_people(13), resume=True)


def test_other_data_of_the_same_size_is_not_resumed(begun: Path) -> None:
    with pytest.raises(TrainingError, match=r"data fingerprint was '\w+', is '\w+'; the numbers agree"):
        run(tiny_recipe(), begun, source=banded_people(first=40), resume=True)


def test_data_of_another_name_is_not_resumed(begun: Path) -> None:
    with pytest.raises(TrainingError, match=r"sources was \['banded'\], is \['other'\]"):
        run(tiny_recipe(), begun, source=banded_people(name="other"), resume=True)


def test_without_a_state_there_is_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"last\.pt: no such file, so there is nothing to resume"):
        run(tiny_recipe(), tmp_path, resume=True)
    (tmp_path / LAST).write_text("hello")
    with pytest.raises(CheckpointError, match=r"last\.pt is not a training state"):
        run(tiny_recipe(), tmp_path, resume=True)


def test_pseudo_labels_that_are_gone_are_named(begun: Path, tmp_path: Path) -> None:
    name = read_state(begun)["pseudo"]
    (tmp_path / LAST).write_bytes((begun / LAST).read_bytes())
    with pytest.raises(TrainingError, match=f"{name} is missing"):
        run(tiny_recipe(), tmp_path, resume=True)
