"""Opens the model that a server runs."""

from __future__ import annotations

from glimpse.bundle import open_bundle
from glimpse.runtime import Session, open_session
from server.extraction.tuning import SIZES
from server.settings import ServerSettings, default_model


def load_model(settings: ServerSettings) -> Session:
    """Opens the bundle on the provider asked for, checks it, and warms it up."""
    bundle = open_bundle(settings.model or default_model())
    session = open_session(bundle, settings.provider, settings.threads or None, settings.precision)
    # A GPU sets itself up for each new batch size; a CPU only allocates.
    largest = settings.max_batch or SIZES[-1]
    session.warm((1, largest) if session.provider in {"cpu", "openvino"} else range(1, largest + 1))
    return session
