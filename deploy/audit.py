"""`make audit`: looks the locked packages up in the database of known vulnerabilities, where it can be reached."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).resolve().parents[1] / "requirements.lock"
CLEAN, VULNERABLE, UNREACHABLE = 0, 1, 2


def verdict(report: str) -> tuple[int, str]:
    """Exit code and sentence of a JSON report of pip-audit; an empty one means that it could not ask anybody."""
    try:
        packages = json.loads(report)["dependencies"]
    except (json.JSONDecodeError, KeyError):
        packages = []
    asked = [package for package in packages if "skip_reason" not in package]
    if not asked:
        return UNREACHABLE, (
            "the database of vulnerabilities cannot be reached from here (pip-audit asks pypi.org): nothing was "
            "audited; run `make audit` where it can be"
        )
    found = [
        f"{package['name']} {package['version']}: {flaw['id']}, fixed in {', '.join(flaw['fix_versions']) or 'nothing'}"
        for package in asked
        for flaw in package["vulns"]
    ]
    if found:
        return VULNERABLE, "\n".join(found)
    skipped = len(packages) - len(asked)
    return CLEAN, f"{len(asked)} packages have no known vulnerability" + (f"; {skipped} are unknown" if skipped else "")


def main() -> int:
    """Runs the `pip-audit` beside this Python."""
    command = [str(Path(sys.executable).parent / "pip-audit"), "--disable-pip", "--require-hashes", "--format", "json"]
    run = subprocess.run([*command, "-r", str(LOCK)], capture_output=True, text=True, check=False)
    code, sentence = verdict(run.stdout)
    print(sentence)
    return code


if __name__ == "__main__":
    sys.exit(main())
