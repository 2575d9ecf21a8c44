"""Person and camera read from file names."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import PurePath
from typing import NamedTuple

_MARKET = re.compile(r"(?P<person>-?\d+)_(?P<camera>c\d+)")


class Names(StrEnum):
    """How file names tell who is seen by which camera."""

    MARKET = "market"
    FOLDER = "folder"
    NONE = "none"


class Identity(NamedTuple):
    """Both are empty when unknown."""

    person_id: str
    camera_id: str


def identity(path: PurePath, names: Names) -> Identity:
    """Person and camera of an image at ``path``, relative to the indexed folder.

    ``market``: ``0002_c1s1_000451_03.jpg`` is person ``0002`` at camera ``c1`` (Market-1501, DukeMTMC and their
    kin). ``folder``: the first sub-folder names the person; the camera is read as in ``market`` if the name has one.
    """
    found = _MARKET.match(path.name)
    camera = found["camera"] if found else ""
    if names is Names.MARKET:
        return Identity(found["person"] if found else "", camera)
    if names is Names.FOLDER:
        return Identity(path.parts[0] if len(path.parts) > 1 else "", camera)
    return Identity("", "")
