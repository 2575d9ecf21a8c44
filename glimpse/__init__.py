"""Glimpse finds a person again from a partly hidden view.

This package is the shared vocabulary: `PartSchema` and `PartFeatures` (`glimpse.parts`), the distance
(`glimpse.distance`), metrics (`glimpse.metrics`), image decoding and preprocessing (`glimpse.images`,
`glimpse.preprocessing`), tracklets (`glimpse.tracklet`), the bundle format (`glimpse.bundle`) and generated people
(`glimpse.people`). Inference sessions are in `glimpse.runtime`, the client in `glimpse.client`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glimpse.parts import Part, PartFeatures, PartSchema

__version__ = "0.1.0"

__all__ = ["Part", "PartFeatures", "PartSchema", "__version__"]


def __getattr__(name: str) -> Any:
    # Not imported above: the `glimpse` command must set thread variables before NumPy is loaded.
    if name in ("Part", "PartFeatures", "PartSchema"):
        from glimpse import parts

        return getattr(parts, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
