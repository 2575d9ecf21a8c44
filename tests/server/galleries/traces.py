"""Traces of items in the bytes of a data folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from server.galleries.codes import encode
from server.galleries.compact import PIECE, compress
from server.galleries.items import NewItem
from tests.server.galleries.generated import SCHEMA


def marked(item_id: str, chance: np.random.Generator, *, person: str = "", **fields: object) -> NewItem:
    """An item of which every byte string is found nowhere else: random vectors, image and attributes."""
    vectors = chance.standard_normal(SCHEMA.width).astype(np.float32)
    for columns in SCHEMA.slices:
        vectors[columns] /= np.linalg.norm(vectors[columns])
    mark = chance.bytes(6).hex()
    return NewItem(
        item_id,
        vectors.astype(np.float16),
        np.ones(len(SCHEMA), np.float32),
        person_id=person,
        attributes={"note": f"note-{mark}"},
        image=b"JPEG" + chance.bytes(300),
        **fields,  # type: ignore[arg-type]
    )


def traces(item: NewItem) -> dict[str, bytes]:
    """What of an item must not be left: its features whole, part by part, as int8 and two-bit codes, image, texts."""
    assert item.attributes is not None
    assert item.image is not None
    found = {
        "item id": item.item_id.encode(),
        "attributes": str(item.attributes["note"]).encode(),
        "vectors": item.vectors.tobytes(),
        "image": item.image,
        "end of image": item.image[-40:],
    }
    if item.person_id:
        found["person id"] = item.person_id.encode()
    # Part by part, for rows or parts may lie behind each other.
    codes = encode(item.vectors[None], item.visibility[None], SCHEMA).codes.reshape(-1)
    for name, columns in zip(SCHEMA.names, SCHEMA.slices, strict=True):
        found[f"part {name}"] = item.vectors[columns].tobytes()
        found[f"int8 codes {name}"] = codes[columns].tobytes()
    # Of the first part: the others are so narrow that two people may share their codes.
    compact = compress(item.vectors[None], item.visibility[None], SCHEMA)["codes"]
    found["two-bit codes"] = compact.reshape(-1, PIECE)[0].tobytes()
    return found


def places(folder: Path, wanted: Mapping[str, bytes]) -> dict[str, list[str]]:
    """For each byte string the files below ``folder`` that hold it; only what is found."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            for name, needle in wanted.items():
                if needle in content:
                    found.setdefault(name, []).append(path.relative_to(folder).as_posix())
    return found
