"""Every data set of the registry, from a tiny tree in each of its layouts."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from _pytest.mark import ParameterSet

from tests.trainer.data.trees import HEIGHT, LAYOUTS, WIDTH, Build, market
from trainer.data import DATASETS, find_card, find_listing, find_training
from trainer.data.card import NOT_WHOLE, answerable
from trainer.data.listing import DatasetError

BASES = {name: spec.fixed.get("base", name) for name, spec in DATASETS.items() if spec.needs_path}
CASES = [
    pytest.param(name, build, id=f"{name}-{i}")
    for name, base in BASES.items()
    for i, build in enumerate(LAYOUTS.get(base, ()))
]
SPLIT = "@split=3"


def base_of(case: ParameterSet) -> str:
    return BASES[str(case.values[0])]


def training_name(name: str, path: Path) -> str:
    return f"{name}:{path}" + (SPLIT if "split" in DATASETS[name].options else "")


def test_every_data_set_has_a_tiny_tree() -> None:
    assert set(BASES.values()) == set(LAYOUTS)


@pytest.mark.parametrize(("name", "build"), CASES)
def test_a_data_set_is_listed_from_its_folder(name: str, build: Build, tmp_path: Path) -> None:
    root = build(tmp_path)
    listing = find_listing(f"{name}:{root}")
    assert listing.name == name
    for side in (listing.query, listing.gallery):
        assert (side.people >= 0).all()
        assert side.paths is not None
        assert all(path.is_file() for path in side.paths)
        assert len(set(side.ids)) == len(side)
        assert not any(clutter in image for image in side.ids for clutter in ("DS_Store", "Thumbs", "/."))
        image = side.load(len(side) - 1)
        assert image.dtype == np.uint8
        assert image.shape[0] <= HEIGHT
        assert image.shape[1] <= WIDTH


@pytest.mark.parametrize(("name", "build"), [case for case in CASES if base_of(case) not in ("csv", "folder")])
def test_the_folder_above_is_as_good(name: str, build: Build, tmp_path: Path) -> None:
    root = build(tmp_path)
    above, itself = find_listing(f"{name}:{tmp_path}"), find_listing(f"{name}:{root}")
    assert (above.query.ids, above.gallery.ids) == (itself.query.ids, itself.gallery.ids)


@pytest.mark.parametrize(("name", "build"), CASES)
def test_counts_that_are_not_the_whole_sets_are_a_fact_and_no_error(name: str, build: Build, tmp_path: Path) -> None:
    card = find_card(name)
    facts = find_listing(f"{name}:{build(tmp_path)}").facts
    assert card.protocol in facts or BASES[name] != name  # a base states its own, and the occlusion is a fact besides
    assert any(NOT_WHOLE in fact for fact in facts) == bool(card.expected)
    assert not any("as expected" in fact for fact in facts)


@pytest.mark.parametrize(("name", "build"), CASES)
def test_every_query_keeps_a_positive_or_is_counted(name: str, build: Build, tmp_path: Path) -> None:
    listing = find_listing(f"{name}:{build(tmp_path)}")
    skipped = int((~answerable(listing.query, listing.gallery)).sum())
    assert skipped < len(listing.query)
    assert any(f"{skipped} queries have no positive" in fact for fact in listing.facts) == bool(skipped)
    if "camera 0" in find_card(name).protocol:  # dummy cameras: nothing may be left out
        assert set(listing.query.cameras) == {0}
        assert set(listing.gallery.cameras) == {1}
        assert skipped == 0


@pytest.mark.parametrize(("name", "build"), CASES)
def test_training_images_are_of_people_and_not_of_the_test(name: str, build: Build, tmp_path: Path) -> None:
    root = build(tmp_path)
    if not DATASETS[name].training:
        with pytest.raises(DatasetError, match="has no training part"):
            find_training(f"{name}:{root}")
        return
    training = find_training(training_name(name, root))
    assert training.name == name
    assert len(np.unique(training.images.people)) >= 2
    assert (training.images.people >= 0).all()
    assert training.images.load(0).ndim == 3
    if DATASETS[name].fixed.get("base") is None and "unsplit" not in build.__name__:
        tested = find_listing(training_name(name, root))
        assert not set(training.images.ids) & {*tested.query.ids, *tested.gallery.ids}


@pytest.mark.parametrize("name", BASES)
def test_a_missing_folder_is_an_error_that_names_it(name: str, tmp_path: Path) -> None:
    for find in (find_listing, find_training):
        if find is find_training and not DATASETS[name].training:
            continue
        with pytest.raises(DatasetError) as refused:
            find(training_name(name, tmp_path / "nowhere"))
        assert str(tmp_path / "nowhere") in str(refused.value)


@pytest.mark.parametrize("name", BASES)
def test_an_empty_folder_is_an_error_that_names_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as refused:
        find_listing(f"{name}:{tmp_path}")
    assert str(tmp_path) in str(refused.value)


@pytest.mark.parametrize(("name", "build"), CASES)
def test_a_corrupt_image_is_named_when_it_is_loaded(name: str, build: Build, tmp_path: Path) -> None:
    query = find_listing(f"{name}:{build(tmp_path)}").query
    assert query.paths is not None
    query.paths[0].write_bytes(query.paths[0].read_bytes()[:60])
    with pytest.raises(DatasetError) as refused:
        query.load(0)
    assert query.ids[0] in str(refused.value)


@pytest.mark.parametrize("name", DATASETS)
def test_the_card_says_all_there_is_to_say(name: str) -> None:
    card = find_card(name)
    assert all((card.title, card.source, card.licence, card.protocol, card.layout))


def test_only_the_queries_of_an_occluded_variant_are_occluded(tmp_path: Path) -> None:
    root = market(tmp_path)
    whole, occluded = find_listing(f"market1501:{root}"), find_listing(f"market1501-occluded:{root}")
    assert occluded.query.ids == whole.query.ids
    assert occluded.query.hidden is not None
    assert (occluded.query.hidden > 0.2).all()
    assert not np.array_equal(occluded.query.load(0), whole.query.load(0))
    np.testing.assert_array_equal(occluded.gallery.load(0), whole.gallery.load(0))
    again, other = (find_listing(f"market1501-occluded:{root}@seed={seed}") for seed in (0, 1))
    np.testing.assert_array_equal(again.query.load(0), occluded.query.load(0))
    assert not np.array_equal(other.query.hidden, occluded.query.hidden)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing:{}", r"unknown data set 'nothing'; choose from \['market1501:PATH'"),
        ("market1501:{}@split=1", r"no option 'split'; it has \['shots'"),
        ("occluded-reid:{}@split=10", "split must be 0 to 9, got 10"),
        ("occluded-reid:{}@split=first", "split must be 0 to 9, got 'first'"),
        ("occluded-reid:{}@split=all", "split=all stands for 10 trials"),
        ("occluded-reid:{}@split=1,split=2", "'split' is given twice"),
        ("market1501:{}@draw=1", "draw is of multi-shot queries, which need shots=N"),
        ("market1501:{}@shots=none", "shots must be a number from 1, got 'none'"),
        ("market1501:{}@shots=2,pool=max", "pool must be min or mean, got 'max'"),
        ("market1501-occluded:{}@seed=x", "seed must be a number from 0, got 'x'"),
    ],
)
def test_a_wrong_name_or_option_says_what_was_expected(name: str, message: str, tmp_path: Path) -> None:
    for base in ("market1501", "occluded-reid"):
        LAYOUTS[base][0](tmp_path)
    with pytest.raises(DatasetError, match=message):
        find_listing(name.format(tmp_path))


def test_a_path_may_hold_an_at_sign(tmp_path: Path) -> None:
    (tmp_path / "me@home").mkdir()
    root = market(tmp_path / "me@home")
    assert len(find_listing(f"market1501:{root}").query) == 6
    assert find_listing(f"market1501:{root}@shots=1").shots is not None


def test_a_listing_goes_to_worker_processes(tmp_path: Path) -> None:
    root = market(tmp_path)
    images = find_training(f"market1501:{root}").images
    copy = pickle.loads(pickle.dumps(images))
    np.testing.assert_array_equal(copy.load(1), images.load(1))


def test_listing_data_sets_needs_no_torch() -> None:
    script = (
        "import importlib, sys\n"
        "for name in ('torch', 'torchvision', 'timm', 'lightning'): sys.modules[name] = None\n"
        "from trainer.data import DATASETS, find_card\n"
        "import trainer.data.verification, trainer.data.occluded_duke.conversion\n"
        "for name, spec in DATASETS.items():\n"
        "    module = importlib.import_module(spec.module)\n"
        "    getattr(module, spec.evaluation), spec.training and getattr(module, spec.training), find_card(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2_000:]
