"""The guard, in fresh interpreters: what was imported here before would hide a failure."""

from __future__ import annotations

import subprocess
import sys


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_torchvision_timm_and_lightning_import_after_the_trainer() -> None:
    assert "ready" in run("import trainer, torchvision, timm, lightning; print('ready')")


def test_importing_the_trainer_and_its_evaluation_needs_nothing_of_the_train_extra() -> None:
    code = (
        "import sys, trainer, trainer.data, trainer.evaluation, trainer.tuning, trainer.data.generated;"
        "print(sorted({'torch', 'torchvision', 'timm', 'lightning', 'yaml'} & set(sys.modules)))"
    )
    assert run(code).strip() == "[]"


def test_the_guard_is_put_in_place_once() -> None:
    code = (
        "import sys, trainer; from trainer.torchvision_guard import install; before = len(sys.meta_path);"
        "install(); install(); print(len(sys.meta_path) - before)"
    )
    assert run(code).strip() == "0"
