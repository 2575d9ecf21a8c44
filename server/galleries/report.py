"""`GalleryReport`: the figures of a gallery."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GalleryReport:
    """What a gallery holds, as of one write."""

    items: int
    bytes: int
    """Features and metadata of live items."""
    sequence: int
    tombstones: int
    """Deleted or replaced rows that still take memory."""
    patterns: int
    """Visibility patterns (which parts are visible) among the live items."""
    memory_bytes: int
    segments: int
    """Pieces of the index; those beyond the newest are in files."""
    disk_bytes: int
    """Size of the index files."""
    fast_recall: float | None
    """Share of the exact matches that fast searches found, by samples; None before the first sample."""
