"""Two processes train one model: the same weights in both, other images in each, one writer, and a resumption."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trainer.test_loop_resume import assert_same_end
from trainer.checkpoint import load_checkpoint
from trainer.loop import TrainingError, fit
from trainer.loop.state import read_state

ROOT = Path(__file__).resolve().parents[2]

# A file, because Lightning starts the further processes by running the program again.
PROGRAM = """
import os, sys
from pathlib import Path
import trainer  # before Lightning: see trainer.torchvision_guard
import lightning as L
import numpy as np
from tests.trainer.sources import banded_listing, banded_people
from tests.trainer.tiny import tiny_recipe
from trainer.loop import fit

class Note(L.Callback):
    rows, kill = [], int(sys.argv[2])
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.rows.append(batch.rows.tolist())
        if module.step == self.kill:
            os._exit(9)
    def on_train_end(self, trainer, module):
        weights = np.concatenate([p.detach().numpy().ravel() for p in module.method.parameters()])
        np.savez(out / f"rank{trainer.global_rank}.npz", weights=weights, rows=self.rows)

if __name__ == "__main__":
    out = Path(sys.argv[1])
    fit(tiny_recipe(steps=5), out, [banded_people()], [banded_listing()], seed=5, progress=False, devices=2,
        resume=sys.argv[3] == "resume", callbacks=[Note()])
"""


def train_on_two(program: Path, out: Path, *, kill: int = 0, resume: bool = False) -> int:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, str(program), str(out), str(kill), "resume" if resume else "start"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=150,
    )  # fmt: skip
    assert kill or run.returncode == 0, run.stderr[-3_000:]
    return run.returncode


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "pair.py"
    path.write_text(PROGRAM)
    return path


@pytest.fixture(scope="module")
def pair(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pair")
    train_on_two(program, out)
    return out


def test_both_end_with_the_weights_that_are_kept_after_other_images(pair: Path) -> None:
    first, second = (np.load(pair / f"rank{rank}.npz") for rank in (0, 1))
    np.testing.assert_array_equal(first["weights"], second["weights"])
    assert first["rows"].shape == second["rows"].shape == (5, 24)
    assert (first["rows"] != second["rows"]).any()
    kept = read_state(pair)
    parameters = np.concatenate(
        [tensor.numpy().ravel() for name, tensor in kept["weights"].items() if name in _parameters(pair)]
    )
    np.testing.assert_array_equal(parameters, first["weights"])
    assert len(kept["random"]) == 2
    assert load_checkpoint(pair / "checkpoint.pt").provenance.devices == 2


def _parameters(out: Path) -> set[str]:
    return {name for name, _ in load_checkpoint(out / "checkpoint.pt").build().named_parameters()}


def test_a_killed_pair_resumes_as_if_unbroken(program: Path, pair: Path, tmp_path: Path) -> None:
    assert train_on_two(program, tmp_path, kill=4) != 0
    assert read_state(tmp_path)["step"] == 3
    train_on_two(program, tmp_path, resume=True)
    assert_same_end(pair, tmp_path)


def test_another_number_of_devices_does_not_resume_it(pair: Path) -> None:
    from tests.trainer.sources import banded_listing, banded_people
    from tests.trainer.tiny import tiny_recipe

    with pytest.raises(TrainingError, match="devices was 2, is 1"):
        fit(
            tiny_recipe(steps=5), pair, [banded_people()], [banded_listing()], seed=5, resume=True, devices=1,
            progress=False,
        )  # fmt: skip
    assert torch.load(pair / "last.pt", weights_only=True)["identity"]["devices"] == 2
