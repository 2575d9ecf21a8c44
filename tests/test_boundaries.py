"""The house rules: who may import whom, how long a file may be, and that generated code is fresh."""

from __future__ import annotations

import ast
import filecmp
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from protos.generate import generate

ROOT = Path(__file__).resolve().parents[1]
OURS = ("glimpse", "protos", "server", "trainer", "exporter", "benchmarks", "tests")
MAX_LINES = 400

VOCABULARY = "glimpse"  # the files directly in glimpse/ and glimpse/people/
EVERYTHING = frozenset({VOCABULARY, "glimpse.runtime", "glimpse.client", "glimpse.cli", *OURS})
ROOMS: dict[str, frozenset[str]] = {
    VOCABULARY: frozenset(),
    "glimpse.runtime": frozenset({VOCABULARY}),
    "glimpse.client": frozenset({VOCABULARY, "protos"}),
    "glimpse.cli": EVERYTHING - {"tests"},
    "protos": frozenset(),
    "server": frozenset({VOCABULARY, "glimpse.runtime", "protos"}),
    "trainer": frozenset({VOCABULARY}),
    "exporter": frozenset({VOCABULARY, "glimpse.runtime", "trainer"}),
    "benchmarks": EVERYTHING - {"tests"},
    "tests": EVERYTHING,
}
TORCH = frozenset({"torch", "torchvision", "timm", "lightning", "pytorch_metric_learning"})
GRPC = frozenset({"grpc", "grpc_health", "grpc_reflection", "grpc_status"})
FORBIDDEN: dict[str, frozenset[str]] = {
    VOCABULARY: TORCH | GRPC,
    "glimpse.runtime": TORCH | GRPC,
    "glimpse.client": TORCH,
    "glimpse.cli": TORCH,
    "protos": TORCH,
    "server": TORCH,
    "trainer": GRPC,
}
VOCABULARY_LIBRARIES = frozenset({"numpy", "cv2", "pydantic"})

IMPORT_ALL = f"""
import importlib, pkgutil, sys
for name in {sorted(TORCH)!r}:
    sys.modules[name] = None  # importing it now raises
import glimpse, server
for package in (glimpse, server):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
"""


STARTED = """
import sys
import glimpse.cli
rooms = ("glimpse.runtime", "glimpse.client", "glimpse.people", "protos", "server", "trainer", "exporter", "benchmarks")
print(sorted(name for name in sys.modules if name.startswith(rooms) or name in ("torch", "grpc", "cv2")))
"""


def test_every_room_imports_only_what_it_may():
    problems = [
        problem
        for path in sorted(_sources())
        for problem in violations(_module(path), path.read_text(), path.name == "__init__.py")
    ]
    assert problems == []


@pytest.mark.parametrize(
    ("module", "source", "problem"),
    [
        ("glimpse.metrics", "import server.errors", "glimpse may not import server"),
        ("glimpse.metrics", "from glimpse import runtime", "glimpse may not import glimpse.runtime"),
        ("glimpse.people.body", "from ..runtime import session", "glimpse may not import glimpse.runtime"),
        ("glimpse.metrics", "import pandas", "glimpse may only use cv2, numpy, pydantic, not pandas"),
        ("glimpse.runtime.session", "import grpc", "glimpse.runtime may not import grpc"),
        ("glimpse.client.client", "from glimpse.runtime import x", "glimpse.client may not import glimpse.runtime"),
        ("server.wire", "def f():\n    import torch.nn", "server may not import torch"),
        ("server.wire", "from trainer import data", "server may not import trainer"),
        ("server.wire", "import importlib\nimportlib.import_module('trainer.data')", "server may not import trainer"),
        ("server.wire", "ENGINES = {'x': 'exporter.onnx:Graph'}", "server may not import exporter"),
        ("trainer.loop", "import protos.glimpse.v1", "trainer may not import protos"),
        ("trainer.loop", "from grpc import aio", "trainer may not import grpc"),
        ("exporter.onnx", "import server", "exporter may not import server"),
        ("trainer.loop", "from glimpse.cli import main", "trainer may not import glimpse.cli"),
        ("benchmarks.search", "from tests import bundles", "benchmarks may not import tests"),
    ],
)
def test_the_check_itself_finds(module, source, problem):
    (found,) = violations(module, source)
    assert problem in found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("glimpse.metrics", "import math\nimport numpy as np\nfrom glimpse.parts import Part"),
        ("glimpse.people.body", "from . import palette\nfrom .. import parts"),
        ("glimpse.runtime.session", "import onnxruntime\nfrom glimpse.bundle import Bundle\nfrom . import threads"),
        ("server.wire", "import grpc\nfrom protos.glimpse.v1 import search_pb2\nfrom glimpse.runtime import Session"),
        ("exporter.onnx", "import torch\nfrom trainer.methods import METHODS"),
        ("glimpse.cli.serve", "import typer\nfrom glimpse import __version__\ndef f():\n    import server.application"),
        ("trainer.methods", "METHODS = {'bands': 'trainer.data:Bands'}"),
    ],
)
def test_the_check_itself_lets_pass(module, source):
    assert violations(module, source) == []


def test_glimpse_and_the_server_can_be_imported_without_torch():
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr[-3_000:]


def test_command_line_starts_without_loading_a_room():
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", STARTED], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr[-3_000:]
    assert run.stdout.strip() == "[]"


def test_files_are_short_enough_to_read():
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in _sources()}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_generated_stubs_are_those_of_the_proto_files(tmp_path):
    generate(tmp_path)
    fresh = {path.relative_to(tmp_path) for path in tmp_path.rglob("*_pb2*")}
    kept = {path.relative_to(ROOT) for path in (ROOT / "protos").rglob("*_pb2*.py*") if path.suffix in (".py", ".pyi")}
    assert fresh == kept, "run `make protos`"
    stale = [str(name) for name in sorted(fresh) if not filecmp.cmp(tmp_path / name, ROOT / name, shallow=False)]
    assert stale == [], "run `make protos`"


def violations(module: str, source: str, is_package: bool = False) -> list[str]:
    """What the file of ``module`` imports but may not, one sentence each."""
    room = _room(module)
    problems = []
    for target, line in _imports(module, source, is_package):
        where = f"{module}, line {line}: {room}"
        top = target.partition(".")[0]
        other = _room(target) if top in OURS else ""
        if other and other != room and other not in ROOMS[room]:
            problems.append(f"{where} may not import {other}")
        elif not other and top in FORBIDDEN.get(room, ()):
            problems.append(f"{where} may not import {top}")
        elif not other and room == VOCABULARY and top not in VOCABULARY_LIBRARIES | sys.stdlib_module_names:
            problems.append(f"{where} may only use {', '.join(sorted(VOCABULARY_LIBRARIES))}, not {top}")
    return problems


def _sources() -> list[Path]:
    """Every hand-written Python file of the house."""
    paths = [path for room in OURS for path in (ROOT / room).rglob("*.py")]
    assert len(paths) > 50, "the folders have moved; so must this test"
    return [path for path in paths if "_pb2" not in path.name]


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _room(module: str) -> str:
    inner = ".".join(module.split(".")[:2])
    return inner if inner in ROOMS else module.partition(".")[0]


def _imports(module: str, source: str, is_package: bool) -> Iterator[tuple[str, int]]:
    """Every imported module with its line, wherever in the file it is imported."""
    for node in ast.walk(ast.parse(source)):
        for target in _targets(node, module, is_package):
            yield target, node.lineno


def _targets(node: ast.AST, module: str, is_package: bool) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = module.split(".")[: None if is_package else -1]
        parent = ".".join(base[: len(base) - node.level + 1]) if node.level else ""
        source = ".".join(filter(None, [parent, node.module]))
        # `from glimpse import runtime` imports a module, `from glimpse import Part` does not.
        yield from {
            f"{source}.{alias.name}" if _is_module(f"{source}.{alias.name}") else source for alias in node.names
        }
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        # What a registry or importlib loads by name: "trainer.methods.bands:Bands".
        name = node.value.partition(":")[0]
        if "." in name and name.partition(".")[0] in OURS and (":" in node.value or _is_module(name)):
            yield name


def _is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return name.partition(".")[0] in OURS and (path.is_dir() or path.with_suffix(".py").is_file())
