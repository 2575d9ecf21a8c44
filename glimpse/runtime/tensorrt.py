"""Options of ONNX Runtime's TensorRT provider: an explicit range of batches, and caches that fit one machine only."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from glimpse.bundle import Bundle
from glimpse.precision import FILES, Precision

BATCHES = (1, 8, 32)
"""Smallest, usual and largest batch: TensorRT builds its engine for exactly this range."""
_WHEELS = ("tensorrt-cu13", "tensorrt", "tensorrt-cu12")


def provider_options(bundle: Bundle, precision: Precision, runtime_version: str) -> dict[str, Any]:
    """Options of the provider for a bundle's graph.

    Without an explicit profile TensorRT builds a new engine, for tens of seconds, at every new batch size
    (microsoft/onnxruntime #12120). An engine fits one graph, one TensorRT and one kind of GPU: the folder's name says
    all of them, and nobody else may write there, because an engine is code.
    """
    shapes = profile(bundle.preprocessing.height, bundle.preprocessing.width)
    folder = cache_folder() / cache_key(bundle, precision, runtime_version)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return {
        "trt_profile_min_shapes": shapes[0],
        "trt_profile_opt_shapes": shapes[1],
        "trt_profile_max_shapes": shapes[2],
        "trt_fp16_enable": precision == "float16",
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": str(folder),
    }


def profile(height: int, width: int) -> tuple[str, str, str]:
    """Smallest, usual and largest shape of ``images``, as the provider reads them."""
    smallest, usual, largest = (f"images:{batch}x{height}x{width}x3" for batch in BATCHES)
    return smallest, usual, largest


def cache_key(bundle: Bundle, precision: Precision, runtime_version: str) -> str:
    """A folder name of the graph's hash, the versions, and the GPU."""
    sha = bundle.manifest.files[FILES[precision]]
    gpu = re.sub(r"[^A-Za-z0-9.]+", "-", describe_gpu()).strip("-")
    digest = hashlib.sha256(f"{sha} {runtime_version} {version()} {gpu} {BATCHES}".encode()).hexdigest()
    return f"{sha[:16]}-ort{runtime_version}-trt{version()}-{gpu[:48]}-{digest[:8]}"


def version() -> str:
    """The version of the installed TensorRT wheel; ``system`` when the libraries come from elsewhere."""
    for name in _WHEELS:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "system"


@lru_cache(maxsize=1)
def describe_gpu() -> str:
    """Name, compute capability and driver of the first GPU; ``no GPU`` where none answers."""
    query = ["nvidia-smi", "--id=0", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return "no GPU"
    return answer.strip() or "no GPU"


def cache_folder() -> Path:
    """Where engines and timings are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "glimpse" / "tensorrt"
