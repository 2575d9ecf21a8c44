"""How many cores this process may really use.

Runtimes size their thread pools by the host's cores; in a container with a CPU quota that means many threads which
throttle each other (microsoft/onnxruntime #29510). The quota and the affinity mask say the truth.
"""

from __future__ import annotations

import math
import os
from pathlib import Path, PurePosixPath

CGROUP_ROOT = Path("/sys/fs/cgroup")
PROCESS_CGROUPS = Path("/proc/self/cgroup")


def available_cores() -> int:
    """Whole cores for this process, at least 1: the smaller of the affinity mask and the cgroup quota, rounded up."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def cgroup_quota(root: Path = CGROUP_ROOT, process: Path = PROCESS_CGROUPS) -> float | None:
    """Cores the control group grants (1.5 means one and a half), or None without a limit.

    Reads ``cpu.max`` (v2) and ``cpu.cfs_quota_us`` / ``cpu.cfs_period_us`` (v1) of the process's group and of every
    group above it; the tightest counts.
    """
    quotas = [quota for folder in _groups(root, process) if (quota := _quota_of(folder)) is not None]
    return min(quotas, default=None)


def _groups(root: Path, process: Path) -> list[Path]:
    """The folders of the process's cpu group and its ancestors, up to the root of the hierarchy."""
    try:
        lines = process.read_text().splitlines()
    except OSError:
        lines = []
    found = [root, root / "cpu"]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mounted = root / controllers if (root / controllers).is_dir() else root / "cpu"
        base = mounted if controllers else root
        # Inside a container the path may be the host's; folders that do not exist are passed over.
        relative = PurePosixPath(path.lstrip("/"))
        if ".." not in relative.parts:
            found += [base / relative, *(base / parent for parent in relative.parents)]
    return list(dict.fromkeys(found))


def _quota_of(folder: Path) -> float | None:
    try:
        limit, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            limit = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    try:
        quota, length = int(limit), int(period)  # "max" and -1 mean no limit
    except ValueError:
        return None
    return quota / length if quota > 0 and length > 0 else None
