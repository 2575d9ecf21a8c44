"""`glimpse serve` and `glimpse bench`: thin, and true to what they call."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from glimpse.cli.bench import benchmarks
from glimpse.cli.serve import serve
from server.settings import ServerSettings

BENCH = importlib.import_module("glimpse.cli.bench")  # in the package the name is the command's


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(variable, os.environ.get(variable, "1"))


def test_every_setting_of_the_server_is_an_option() -> None:
    assert set(inspect.signature(serve).parameters) == set(ServerSettings.model_fields)


def test_given_options_become_settings_and_others_stay_default(
    glimpse: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, bundle: Path, tmp_path: Path
) -> None:
    seen: list[ServerSettings] = []

    def run(settings: ServerSettings) -> int:
        seen.append(settings)
        return 7

    monkeypatch.setattr("server.application.serve", run)
    options = ["--data", tmp_path, "--model", bundle, "--listen", "127.0.0.1:0", "--max-batch", "3"]
    result = glimpse("serve", *options, "--insecure", "--no-reflection")
    assert result.exit_code == 7
    (settings,) = seen
    assert (settings.data, settings.model, settings.listen) == (tmp_path, bundle, "127.0.0.1:0")
    assert (settings.max_batch, settings.insecure, settings.reflection) == (3, True, False)
    assert settings.provider == "auto"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--listen", "nonsense"], "--listen: address 'nonsense': expected HOST:PORT"),
        (["--provider", "abacus"], "unknown provider 'abacus'"),
        (["--tls-cert", "c.pem"], "TLS needs both"),
        (["--max-batch", "-1"], "--max-batch"),
    ],
)
def test_a_wrong_setting_is_a_usage_error(
    glimpse: Callable[..., Result], bundle: Path, options: list[str], reason: str
) -> None:
    result = glimpse("serve", "--model", bundle, *options)
    assert result.exit_code == 2
    assert reason in " ".join(result.stderr.replace("│", " ").split())


def test_benchmarks_are_found_without_importing_them(tmp_path: Path) -> None:
    (tmp_path / "speed.py").write_text('"""How fast.\n\nMore."""\nimport nonsense\ndef run(quick): ...\n')
    (tmp_path / "report.py").write_text('"""Not a benchmark."""\n')
    assert benchmarks(tmp_path) == {"speed": "How fast."}


def test_outside_of_a_checkout_bench_says_so(
    glimpse: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(BENCH, "ROOT", tmp_path)
    result = glimpse("bench", "serving")
    assert result.exit_code == 1
    assert "part of a checkout" in result.stderr


def test_a_missed_goal_is_exit_code_1_and_is_written_down(
    glimpse: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "probe_of_bench.py").write_text(
        '"""A probe."""\n'
        "from benchmarks.report import Report, Row\n"
        "def run(quick):\n"
        "    report = Report('probe')\n"
        "    report.add(Row('speed', 0.5 if quick else 2.0, 'ratio', goal='>= 1'))\n"
        "    return report\n"
    )
    import benchmarks as package

    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / "benchmarks")])
    monkeypatch.setattr(BENCH, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    target = tmp_path / "figures.json"
    assert glimpse("bench", "probe_of_bench", "--quick", "--json", target).exit_code == 1
    assert json.loads(target.read_text())["rows"][0]["value"] == 0.5
    assert glimpse("bench", "probe_of_bench").exit_code == 0
