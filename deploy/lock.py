"""`make lock`: pins what a server installs, with hashes, to the versions that the tests run with here.

torch is not in it: a server needs none, and its build differs by machine (see constraints.txt).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"


def main() -> int:
    """Compiles the lock with the `uv` beside this Python; its exit code."""
    frozen = subprocess.run(
        [sys.argv[1], "-m", "pip", "freeze", "--exclude-editable"], check=True, capture_output=True, text=True
    ).stdout
    pins = [line for line in frozen.splitlines() if "==" in line and not line.startswith("torch")]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write("\n".join(pins))
        constraints.flush()
        command = [str(Path(sys.executable).parent / "uv"), "pip", "compile", "pyproject.toml", "--extra", "cpu"]
        command += ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-annotate", "--quiet"]
        command += ["--default-index", "https://pypi.org/simple", "--constraint", constraints.name]
        command += ["--custom-compile-command", "make lock", "--output-file", str(LOCK)]
        return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
