"""Partial-iLIDS (He et al., CVPR 2018, from i-LIDS): 119 people, one partial and one whole image each."""

from __future__ import annotations

from typing import Literal

from trainer.data.card import DUMMY_CAMERAS, RESEARCH, Card, Count
from trainer.data.listing import Listing
from trainer.data.pairs import PairFolders, list_pair

Kind = Literal["crop", "nocrop"]
FOLDERS = PairFolders(
    "Partial-iLIDS",
    ("Partial_iLIDS", "Partial-iLIDS", "PartialiLIDS", "PartialILIDS"),
    {
        "crop": ("Probe", "probe", "query"),
        "nocrop": ("partial_iLIDS_Probe_nocrop",),
        "whole": ("Gallery", "gallery"),
    },
)


def _card(title: str, queries: str, folder: str) -> Card:
    return Card(
        title,
        "He et al., CVPR 2018",
        f"{RESEARCH}; i-LIDS belongs to the UK Home Office",
        f"{queries}; single shot; {DUMMY_CAMERAS}",
        f"{folder}, Gallery/1.jpg; the number is the person",
        {"query": Count(119, 119), "gallery": Count(119, 119)},
    )


CROP = _card("Partial-iLIDS", "queries are the visible parts, cropped by hand", "Probe/1.jpg")
NOCROP = _card("Partial-iLIDS, not cropped", "queries are not cropped (PGFA)", "partial_iLIDS_Probe_nocrop/001.jpg")


def list_partial_ilids(path: str, *, query: Kind) -> Listing:
    """119 queries against 119 whole people."""
    name, card = ("partial-ilids", CROP) if query == "crop" else ("partial-ilids-nocrop", NOCROP)
    return list_pair(name, card, FOLDERS, path, query, "whole")
