"""Inference: a bundle's graph on a provider that is really in use, checked by its golden samples.

>>> from glimpse.bundle import open_bundle
>>> from glimpse.runtime import open_session
>>> session = open_session(open_bundle("models/glimpse-lite"))    # doctest: +SKIP
>>> session.run(images)                                           # doctest: +SKIP

The runtimes themselves (`onnxruntime`, `openvino`) are imported only when a session is opened.
"""

from glimpse.runtime.golden import GoldenMismatch, GoldenReport, compare
from glimpse.runtime.providers import PROVIDERS, ProviderError
from glimpse.runtime.session import Session, SessionError, open_session
from glimpse.runtime.threads import available_cores
from glimpse.runtime.wheels import WheelConflict, check_wheels

__all__ = [
    "PROVIDERS",
    "GoldenMismatch",
    "GoldenReport",
    "ProviderError",
    "Session",
    "SessionError",
    "WheelConflict",
    "available_cores",
    "check_wheels",
    "compare",
    "open_session",
]
