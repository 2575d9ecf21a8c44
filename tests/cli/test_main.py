"""The command as a whole: help, errors, exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from glimpse import __version__
from glimpse.bundle import BundleError
from glimpse.cli.boundary import EXPECTED, Commands, Failure, explain
from glimpse.client import NotFound
from tests.client.fake_server import FakeServer


def test_help_lists_every_command_without_loading_anything_heavy() -> None:
    script = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from glimpse.cli import main\n"
        "result = CliRunner().invoke(main, ['--help'])\n"
        "print(result.stdout)\n"
        "heavy = {'numpy', 'cv2', 'grpc', 'pydantic', 'onnxruntime', 'torch', 'faiss', 'server', 'trainer'}\n"
        "print('loaded:', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "loaded: []" in done.stdout
    for command in ("serve", "index", "search", "gallery", "model", "train", "evaluate", "export", "doctor", "bench"):
        assert command in done.stdout


@pytest.mark.parametrize(
    "command",
    [
        *("demo", "serve", "index", "search", "health", "doctor", "bench", "train", "evaluate", "export"),
        *("gallery create", "gallery list", "gallery show", "gallery delete", "model show", "model verify"),
        *("token create", "token list", "token revoke", "audit list", "audit verify"),
    ],
)
def test_the_help_of_every_command_holds_an_example(glimpse: Callable[..., Result], command: str) -> None:
    result = glimpse(*command.split(), "--help")
    assert result.exit_code == 0
    assert f"Example: glimpse {command}" in " ".join(result.stdout.split())


def test_the_version_is_the_packages(glimpse: Callable[..., Result]) -> None:
    assert glimpse("--version").stdout.strip() == f"glimpse {__version__}"


def test_an_error_of_the_server_is_one_sentence_on_stderr(glimpse: Callable[..., Result], server: FakeServer) -> None:
    result = glimpse("gallery", "show", "attic", server=server)
    assert result.exit_code == 1
    assert result.stderr.strip() == "no gallery 'attic'; there are []"
    assert result.stdout == ""


def test_a_missing_file_is_named(glimpse: Callable[..., Result], server: FakeServer, tmp_path: Path) -> None:
    result = glimpse("search", "lobby", tmp_path / "missing.jpg", server=server)
    assert result.exit_code == 1
    assert result.stderr.strip() == f"{tmp_path / 'missing.jpg'}: No such file or directory"


@pytest.mark.parametrize("arguments", [["search", "lobby"], ["bench", "nonsense"], ["nonsense"], ["index", "lobby"]])
def test_a_wrong_command_line_is_exit_code_2(glimpse: Callable[..., Result], arguments: list[str]) -> None:
    assert glimpse(*arguments).exit_code == 2


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (Failure("it failed"), "it failed"),
        (NotFound("NOT_FOUND", "no gallery"), "no gallery"),
        (BundleError("bundle is broken"), "bundle is broken"),
        (FileNotFoundError(2, "No such file", "a.jpg"), "a.jpg: No such file"),
        (ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn"), "pip install '.[train]'"),
        (ModuleNotFoundError("No module named 'nonsense'", name="nonsense"), None),
        (ValueError("a bug"), None),
        (KeyError("a bug"), None),
    ],
)
def test_expected_errors_are_sentences_and_bugs_are_not(error: Exception, sentence: str | None) -> None:
    explained = explain(error)
    assert explained is None if sentence is None else sentence in str(explained)


def test_every_expected_error_exists_where_it_is_named() -> None:
    import importlib

    for entry in EXPECTED:
        module, name = entry.split(":")
        assert issubclass(getattr(importlib.import_module(module), name), Exception), entry


def test_a_bug_keeps_its_trace() -> None:
    app = typer.Typer(cls=Commands, pretty_exceptions_enable=False)

    @app.command()
    def broken() -> None:
        raise ZeroDivisionError("a bug")

    @app.command()
    def fine() -> None:
        pass

    assert isinstance(CliRunner().invoke(app, ["broken"]).exception, ZeroDivisionError)


def test_ctrl_c_is_exit_code_130_without_a_trace(server: FakeServer, crops: Path) -> None:
    server.release.clear()  # the server never answers, so that the command waits
    process = subprocess.Popen(
        [sys.executable, "-m", "glimpse.cli", "index", "lobby", str(crops), "--no-resume"],
        env={**os.environ, "GLIMPSE_SERVER": server.address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Tests that run behind a shell's `&` ignore it, and so would the command.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert server.upserting.wait(20)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
        server.release.set()
    assert process.returncode == 130
    assert "Traceback" not in errors
