"""Memory that a step frees is not faulted in anew by the next one."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

STEPS = """
import resource, sys
import torch
from trainer.loop.memory import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()
def step():
    activations = [torch.ones(12_000_000) for _ in range(4)]
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_what_a_step_frees_is_there_for_the_next_one() -> None:
    faults = {
        how: int(subprocess.run([sys.executable, "-c", STEPS, how], check=True, capture_output=True, text=True).stdout)
        for how in ("usual", "kept")
    }
    assert faults["kept"] < 0.2 * faults["usual"], faults
