"""Real features to search: the gallery of Market-1501 as the shipped glimpse-lite sees it.

They are made once and stay in the cache: the data set's licence forbids passing them on.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from benchmarks.galleries.generator import fitted_decay
from benchmarks.galleries.problem import VISIBLE, SearchProblem, open_problem, save_problem, takes_turns
from trainer.evaluation.features import Extraction, extract_listing, load_features, save_features

MODEL = Path(__file__).resolve().parents[2] / "models" / "glimpse-lite"
QUERIES = 32
"""Per number of visible parts, where there are as many."""


def real_problem(source: Path, cache: Path) -> SearchProblem:
    """A problem of real features.

    Args:
        source: a folder of Market-1501, or a file of `glimpse evaluate --features-out`.
        cache: where the features and the problem are kept.
    """
    name = f"real-{hashlib.sha256(str(source.resolve()).encode()).hexdigest()[:8]}"
    folder = cache / name
    if not (folder / "problem.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _save(load_features(source) if source.is_file() else _extracted(source, folder / "features.npz"), folder)
    return open_problem(folder)


def _extracted(source: Path, path: Path) -> Extraction:
    from glimpse.bundle import open_bundle
    from glimpse.runtime import open_session
    from trainer.data.market1501 import list_market1501

    if path.is_file():
        return load_features(path)
    bundle = open_bundle(MODEL)
    session = open_session(bundle, "cpu")
    listing = list_market1501(str(source))
    print(f"extracting the features of {listing.name} with {bundle.identity.name}, once: minutes", flush=True)
    extraction = extract_listing(listing, bundle.preprocessing, session.run)
    save_features(path, extraction)
    return extraction


def _save(extraction: Extraction, folder: Path) -> None:
    gallery, query = extraction.gallery, extraction.query.features
    counts = np.count_nonzero(query.visibility >= VISIBLE, axis=1)
    chosen = np.concatenate([np.flatnonzero(counts == count)[:QUERIES] for count in np.unique(counts)])
    queries = query[chosen[takes_turns(counts[chosen])]]
    np.save(folder / "vectors.npy", gallery.features.vectors.astype(np.float16))
    about = {"data": extraction.name, "decay": fitted_decay(gallery.features)}
    save_problem(folder, gallery.features.schema, gallery.features.visibility, gallery.people, queries, about)
