"""Writes the stubs beside the .proto files: `make protos`. A test fails when they are stale."""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def generate(destination: Path) -> None:
    """Generates messages, services and type stubs of every .proto under ``destination``.

    Raises:
        RuntimeError: protoc refused a file.
    """
    from grpc_tools import protoc

    sources = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "protos").rglob("*.proto"))
    scripts = Path(sys.executable).parent
    import google.rpc.status_pb2 as status

    rpc_root = Path(status.__file__).parents[2]
    arguments = [
        "protoc",
        f"-I{ROOT}",
        f"-I{resources.files('grpc_tools') / '_proto'}",
        f"-I{rpc_root}",
        f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
        *(f"--{kind}_out={destination}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")),
        *sources,
    ]
    code = protoc.main(arguments)
    if code != 0:
        raise RuntimeError(f"protoc ended with exit code {code}")


if __name__ == "__main__":
    generate(ROOT)
