"""The three lists of Occluded-DukeMTMC: one file name a line, 35,489 in all, as its authors published them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from trainer.data.bounding_boxes import GALLERY, QUERY, TRAIN
from trainer.data.dukemtmc import NAME
from trainer.data.listing import DatasetError

PARTS: Mapping[str, str] = {"train": TRAIN, "gallery": GALLERY, "query": QUERY}
"""Part -> folder."""


@dataclass(frozen=True)
class NameList:
    """What a list must be."""

    images: int
    people: int
    sha256: str


LISTS: Mapping[str, NameList] = {
    "train": NameList(15_618, 702, "dadffee79d8601545ca2217a38406c1cb6dab39d0b4b0c6370c8486738dee059"),
    "gallery": NameList(17_661, 1_110, "0393fa86344ef4c220a5589aaad409f3adda1e14e39fc8425c80e90196065fca"),
    "query": NameList(2_210, 519, "fb5e1b1a749a0ab8602414bc9159e7a03216c2bdc519b5a4e513e05e3f612333"),
}


def read_list(part: str) -> tuple[str, ...]:
    """The file names of ``train``, ``gallery`` or ``query``, in the list's order.

    Raises:
        DatasetError: the file that came with Glimpse is damaged.
    """
    return check_list(part, files(__package__).joinpath(f"{part}.list").read_bytes())


def check_list(part: str, data: bytes) -> tuple[str, ...]:
    """The names of a list, after its hash, its count and every name were checked."""
    expected = LISTS[part]
    found = hashlib.sha256(data).hexdigest()
    if found != expected.sha256:
        raise DatasetError(f"{part}.list has SHA-256 {found}, expected {expected.sha256}")
    names = tuple(data.decode("ascii").split())
    people = {name[:4] for name in names}
    strange = [name for name in names if not NAME.fullmatch(name)]
    if strange or len(names) != expected.images or len(people) != expected.people or len(set(names)) != len(names):
        raise DatasetError(
            f"{part}.list holds {len(names):,} names of {len(people):,} people, expected {expected.images:,} different "
            f"ones of {expected.people:,}" + (f"; {strange[0]!r} is no name of DukeMTMC-reID" if strange else "")
        )
    return names
