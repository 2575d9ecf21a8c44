"""Tiny data sets of generated pixels in every layout that is read, with the clutter that real archives bring."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np

from trainer.data.occluded_duke.lists import PARTS, read_list

HEIGHT, WIDTH = 32, 16
PEOPLE = range(1, 7)
Build = Callable[[Path], Path]
"""Makes a tree below a folder; gives the data set's own folder (or file)."""


def write(path: Path, value: int | None = None) -> Path:
    """An image nobody else has; ``value`` makes it plain."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(zlib.crc32(str(path).encode()))
    pixels = random.integers(40, 255, (HEIGHT, WIDTH, 3), np.uint8)
    assert cv2.imwrite(str(path), pixels if value is None else np.full_like(pixels, value))
    return path


def fill(root: Path, names: Iterable[str]) -> Path:
    """Images, and in each of their folders what is no image of the set."""
    for name in names:
        path = write(root / name)
        for clutter in (".DS_Store", "Thumbs.db", f"._{path.name}", "notes.txt"):
            (path.parent / clutter).write_bytes(b"clutter")
    return root


def market(root: Path) -> Path:
    train = [f"bounding_box_train/{p:04d}_c{c}s1_000151_01.jpg" for p in (7, 9) for c in (1, 2)]
    query = [f"query/{p:04d}_c1s1_001051_00.jpg.jpg" for p in PEOPLE]
    gallery = [f"bounding_box_test/{p:04d}_c2s1_000001_01.jpg" for p in (0, *PEOPLE)]
    junk = ["bounding_box_test/-1_c3s1_000003_04.jpg", "bounding_box_test/0001_c1s2_000004_02.jpg"]
    return fill(root / "Market-1501-v15.09.15", [*train, *query, *gallery, *junk])


def dukemtmc(root: Path) -> Path:
    train = [f"bounding_box_train/{p:04d}_c{c}_f0046182.jpg" for p in (7, 9) for c in (1, 2)]
    query = [f"query/{p:04d}_c5_f0000001.jpg" for p in PEOPLE]
    gallery = [f"bounding_box_test/{p:04d}_c6_f0000002.jpg" for p in PEOPLE]
    return fill(root / "DukeMTMC-reID", [*train, *query, *gallery])


def occluded_duke_names() -> dict[str, list[str]]:
    """A few names of each list: a query of its own and seven that are in the gallery too, each with a positive."""
    train, queries, gallery = (read_list(part) for part in ("train", "query", "gallery"))
    searched, asked = set(gallery), set(queries)
    positives: dict[str, list[str]] = {}  # person -> gallery images that are nobody's query
    for name in gallery:
        if name not in asked:
            positives.setdefault(name[:4], []).append(name)
    chosen: dict[str, str] = {}  # query -> positive; the first is not in the gallery
    for query in (next(name for name in queries if name not in searched), *queries[::100]):
        other = next((name for name in positives.get(query[:4], ()) if name[6] != query[6]), None)
        if other and len(chosen) < 8 and (not chosen or query in searched):
            chosen[query] = other
    moved = list(chosen)[1:]
    return {"train": list(train[:60:4]), "query": list(chosen), "gallery": sorted({*chosen.values(), *moved})}


def occluded_duke(root: Path) -> Path:
    names = occluded_duke_names()
    return fill(root / "Occluded_Duke", [f"{PARTS[part]}/{name}" for part in PARTS for name in names[part]])


def occluded_duke_source(root: Path) -> Path:
    """DukeMTMC-reID before conversion: all queries but one are still in the gallery."""
    names = occluded_duke_names()
    files = [f"bounding_box_train/{name}" for name in names["train"]]
    files += [f"bounding_box_test/{name}" for name in names["gallery"]]
    return fill(
        root / "DukeMTMC-reID", [*files, f"query/{names['query'][0]}", "bounding_box_test/0001_c1_f0000009.jpg"]
    )


def p_duke(root: Path) -> Path:
    kinds = ("occluded_body_images", "whole_body_images")
    parts = {"train": (30, 31, 32), "test": PEOPLE}
    return fill(
        root / "P-DukeMTMC-reid",
        [f"{part}/{kind}/{p:04d}/{p:04d}_c2_f0000{p:03d}.jpg" for part in parts for kind in kinds for p in parts[part]],
    )


def nested(folder: str, suffix: str) -> Build:
    """A folder a person in each kind, two images each."""

    def build(root: Path) -> Path:
        kinds = ("occluded_body_images", "whole_body_images")
        return fill(
            root / folder, [f"{k}/{p:03d}/{p:03d}_{n:02d}{suffix}" for k in kinds for p in PEOPLE for n in (1, 2)]
        )

    return build


def flat(folder: str, *kinds: str) -> Build:
    """The person first in the name, then the number of the image."""

    def build(root: Path) -> Path:
        return fill(root / folder, [f"{kind}/{p:03d}_{n:03d}.jpg" for kind in kinds for p in PEOPLE for n in (1, 2)])

    return build


def ilids(root: Path) -> Path:
    plain = [f"{folder}/{p}.jpg" for folder in ("Gallery", "Probe") for p in PEOPLE]
    return fill(root / "Partial_iLIDS", [*plain, *(f"partial_iLIDS_Probe_nocrop/{p:03d}.jpg" for p in PEOPLE)])


def msmt17(version: str, train: str, test: str) -> Build:
    def build(root: Path) -> Path:
        home = root / version
        lists: dict[str, list[str]] = {"train": [], "val": [], "query": [], "gallery": []}
        for person in range(4):  # counted from 0 in both parts
            for part, camera in (("train", 1), ("val", 2), ("query", 3), ("gallery", 4)):
                name = f"{person:04d}/{person:04d}_000_{camera:02d}_0303morning_0008_0.jpg"
                write(home / (train if part in ("train", "val") else test) / name)
                lists[part].append(f"{name} {person}")
        for part, lines in lists.items():
            (home / f"list_{part}.txt").write_text("\n".join(lines) + "\n")
        return home

    return build


def cuhk03(root: Path) -> Path:
    names = [
        f"{folder}/{p:04d}_c{c}_{p}.png"
        for folder, camera in (("bounding_box_train", (1, 2)), ("query", (1,)), ("bounding_box_test", (2,)))
        for p in PEOPLE
        for c in camera
    ]
    return fill(root / "cuhk03-np", [f"{kind}/{name}" for kind in ("labeled", "detected") for name in names])


def conreid(root: Path) -> Path:
    train = [f"bounding_box_train/{p:04d}_c{c}s1_000002.jpg" for p in (10, 11, 12) for c in (1, 2)]
    query = [f"query/{p:04d}_c1s1_000002_1.jpg" for p in PEOPLE]
    gallery = [f"bounding_box_test/{p:04d}_c1s1_000003.jpg" for p in PEOPLE]
    return fill(root / "con-reid", [*train, *query, *gallery])


def folders(root: Path) -> Path:
    parts = {"train": ("dan", "eve"), "query": ("ann", "bob"), "gallery": ("ann", "bob", "cid")}
    return fill(
        root / "mine", [f"{part}/{p}/{part}{n}.webp" for part, people in parts.items() for p in people for n in (1, 2)]
    )


def unsplit_folders(root: Path) -> Path:
    return fill(root / "mine", [f"{p}/c{n}_x.png" for p in ("ann", "bob", "cid") for n in (1, 2)])


def table(root: Path) -> Path:
    fill(root, [f"images/{i}.png" for i in range(9)])
    rows = [("ann", "hall", "query"), ("ann", "yard", "gallery"), ("bob", "hall", "query"), ("bob", "yard", "gallery")]
    rows += [("dan", "hall", "train"), ("dan", "yard", "train"), ("eve", "hall", "train"), ("-1", "yard", "gallery")]
    lines = [f"images/{i}.png,{','.join(row)}" for i, row in enumerate(rows)]
    path = root / "mine.csv"
    path.write_text("path,person,camera,split\n" + "\n".join(lines) + "\n")
    return path


_PARTIAL = ("partial_body_images", "occluded_body_images", "whole_body_images")
LAYOUTS: dict[str, tuple[Build, ...]] = {
    "market1501": (market,),
    "dukemtmc": (dukemtmc,),
    "occluded-duke": (occluded_duke, occluded_duke_source),
    "p-duke": (p_duke,),
    "occluded-reid": (nested("Occluded_REID", ".tif"), flat("OccludedREID", "query", "gallery")),
    "partial-reid": (flat("Partial-REID_Dataset", *_PARTIAL), flat("Partial_REID", *_PARTIAL)),
    "partial-reid-occluded": (flat("Partial-REID_Dataset", *_PARTIAL),),
    "partial-ilids": (ilids, flat("PartialiLIDS", "query", "gallery")),
    "partial-ilids-nocrop": (ilids,),
    "p-ethz": (nested("P_ETHZ", ".png"),),
    "msmt17": (msmt17("MSMT17_V1", "train", "test"), msmt17("MSMT17_V2", "mask_train_v2", "mask_test_v2")),
    "cuhk03-labeled": (cuhk03,),
    "cuhk03-detected": (cuhk03,),
    "conreid": (conreid,),
    "folder": (folders, unsplit_folders),
    "csv": (table,),
}
"""Every layout of every data set that is read from files."""
