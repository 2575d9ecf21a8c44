"""What the loop does with a method, what it keeps, what it shows, and what it refuses to go on with."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.trainer.sources import banded_listing, banded_people
from tests.trainer.tiny import Tiny, tiny_recipe
from trainer.checkpoint import load_checkpoint
from trainer.loop import TrainingError, features_of, fit, train
from trainer.loop.reporting import _duration
from trainer.loop.state import read_state
from trainer.loop.validation import Validation
from trainer.recipe import Recipe, RecipeError, load_recipe


class Watch(L.Callback):
    """Notes what the loop has done by the end of every batch."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.updates: list[int] = []
        self.clusters: list[int] = []
        self.sizes: list[tuple[int, int]] = []
        self.modes: set[bool] = set()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.steps.append(module.step)
        self.updates.append(int(module.method.count))
        self.clusters.append(len(module.method.clusters))
        self.sizes.append(tuple(batch.images.shape[1:3]))
        self.modes.add(module.method.training)


def run(recipe: Recipe, out: Path, *, listings: Any = None, **options: Any) -> Path:
    listings = [banded_listing()] if listings is None else listings
    sources = options.pop("sources", None) or [banded_people()]
    return fit(recipe, out, sources, listings, progress=False, **options)


def test_epochs_begin_and_memories_are_updated_as_the_method_asks(tmp_path: Path) -> None:
    watch = Watch()
    run(tiny_recipe(steps=6), tmp_path, callbacks=[watch])
    assert watch.steps == [1, 2, 3, 4, 5, 6]
    assert watch.updates == watch.steps
    assert watch.clusters == [2, 2, 3, 3, 4, 4]  # one more every epoch of 48 / 24 steps
    assert watch.sizes == [(42, 21)] * 2 + [(64, 32)] * 4  # the first third is small
    assert watch.modes == {True}  # though begin_epoch and validation switch to evaluation


def test_accumulation_makes_one_step_of_several_batches_and_every_batch_reaches_the_memory(tmp_path: Path) -> None:
    watch = Watch()
    run(tiny_recipe(steps=3, accumulate=2), tmp_path, callbacks=[watch])
    assert watch.steps == [0, 1, 1, 2, 2, 3]
    assert watch.updates == [1, 2, 3, 4, 5, 6]


def test_a_loss_that_is_not_finite_stops_training_and_leaves_the_batch(tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"the loss is not finite at step 4: identity nan, cluster .*rows: \d+, \d+"
    ):
        run(tiny_recipe(options={"fail_at": 4}), tmp_path)
    failed = torch.load(tmp_path / "failed-batch.pt", weights_only=True)
    assert failed["step"] == 4
    assert np.isnan(failed["terms"]["identity"])
    batch = failed["batch"]
    people = banded_people().people
    assert batch["identity"].tolist() == people[batch["rows"].numpy()].tolist()
    assert batch["base"]["images"].shape == (24, 64, 32, 3)
    assert read_state(tmp_path)["step"] == 3  # what was kept is from before


def test_a_gradient_that_is_not_finite_stops_before_it_spoils_the_weights(tmp_path: Path) -> None:
    class Keep(L.Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, *_: Any) -> None:
            self.method = module.method

    keep = Keep()
    with pytest.raises(TrainingError, match=r"the gradient of classifier\.bias is not finite at step 2"):
        run(tiny_recipe(options={"bad_gradient_at": 2}), tmp_path, callbacks=[keep])
    assert all(torch.isfinite(weight).all() for weight in keep.method.parameters())
    assert (tmp_path / "failed-batch.pt").is_file()


def test_gradients_are_clipped_to_the_recipes_norm(tmp_path: Path) -> None:
    norms = []

    class Norms(L.Callback):
        def on_before_zero_grad(self, trainer: Any, module: Any, optimizer: Any) -> None:
            squares = [p.grad.square().sum() for p in module.parameters() if p.grad is not None]
            if squares:
                norms.append((float(torch.stack(squares).sum().sqrt()), float(module.gradient_norm)))

    run(tiny_recipe(steps=3, clip=0.25), tmp_path, callbacks=[Norms()])
    after, before = zip(*norms, strict=True)
    assert min(before) > 0.25
    assert max(after) <= 0.25 * 1.001


def scripted(monkeypatch: pytest.MonkeyPatch, scores: list[float]) -> None:
    """Validation that finds these mAPs, one after another."""
    monkeypatch.setattr(Validation, "measure", lambda *_: dict.fromkeys(FIGURES, 0.0) | {FIGURES[1]: scores.pop(0)})


FIGURES = ("validation_rank1", "validation_mAP", "validation_rank1_unweighted", "validation_mAP_unweighted")


def test_the_best_of_the_validations_is_kept_even_across_a_resumption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(L.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            if module.step == 4:
                raise InterruptedError

    scripted(monkeypatch, [0.8, 0.7, 0.75])
    with pytest.raises(InterruptedError):
        run(tiny_recipe(), tmp_path, callbacks=[Stop()])
    path = run(tiny_recipe(), tmp_path, resume=True)
    kept, last = load_checkpoint(path), read_state(tmp_path)
    assert (kept.step, last["step"], kept.provenance.steps) == (3, 7, 7)
    assert last["best"]["step"] == 3
    assert not torch.equal(kept.weights["classifier.weight"], last["weights"]["classifier.weight"])
    # What is tuned and described at the end are the weights that are kept.
    assert kept.metrics["validation_mAP"] == Validation([banded_listing()], kept.recipe.preprocessing).tune(
        kept.build()
    )[1]["validation_mAP"]  # fmt: skip


def test_without_validation_the_last_is_kept(tmp_path: Path) -> None:
    kept, last = load_checkpoint(run(tiny_recipe(), tmp_path, listings=[])), read_state(tmp_path)
    assert kept.step == last["step"] == 7
    assert kept.metrics == {}
    assert torch.equal(kept.weights["classifier.weight"], last["weights"]["classifier.weight"])


def test_figures_of_every_listing_are_told_apart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "glimpse.train")
    listings = [banded_listing(), banded_listing(4, first=3000)]
    kept = load_checkpoint(run(tiny_recipe(steps=3), tmp_path, listings=listings))
    assert {"validation_mAP", "validation_mAP_2", "validation_rank1_unweighted_2"} <= set(kept.metrics)
    assert caplog.text.count("banded held out: Rank-1") == 4  # both, once in training and once tuned


def test_tensorboard_shows_losses_rates_and_validation(tmp_path: Path) -> None:
    run(tiny_recipe(steps=10, warmup=0.5, validate_every=5), tmp_path)
    board = EventAccumulator(str(tmp_path / "tensorboard" / "version_0"))
    board.Reload()
    tags = set(board.Tags()["scalars"])
    assert {"loss", "loss/identity", "loss/memory", "gradient_norm", "learning_rate/backbone_weights"} <= tags
    assert [event.step for event in board.Scalars("validation/mAP")] == [5, 10]
    assert [event.step for event in board.Scalars("loss")] == [10]


def test_a_log_tells_the_counts_and_who_is_drawn_with_replacement(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "glimpse.train")
    run(tiny_recipe(steps=2), tmp_path, sources=[banded_people(counts=(1, 2, 4, 4, 5, 6, 4))])
    assert "banded: 26 images of 7 identities by 3 cameras; flat colours" in caplog.text
    assert (
        "2 identities have fewer than 4 images: theirs are drawn with replacement (1 have a single one)" in caplog.text
    )


def test_a_single_image_fills_its_places_in_a_batch(tmp_path: Path) -> None:
    batches = []

    class Rows(L.Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
            batches.append((batch.rows.tolist(), batch.identity.tolist()))

    run(tiny_recipe(steps=3), tmp_path, sources=[banded_people(counts=(1, 2, 4, 4, 5, 6))], callbacks=[Rows()])
    for rows, identities in batches:
        assert len(rows) == 24
        assert np.bincount(identities).tolist() == [4] * 6
        assert rows.count(0) == 4


def test_too_few_identities_for_a_batch_are_counted(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a batch needs 6 identities, the data has 5"):
        run(tiny_recipe(), tmp_path, sources=[banded_people(5)])


def test_an_empty_training_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got 0 images"):
        run(tiny_recipe(), tmp_path, sources=[banded_people(counts=(0,))])


def test_a_view_that_the_method_needs_is_asked_for_before_data_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tiny, "views", ("library", "holistic"), raising=False)
    views = {"library": [{"simulator": "library"}]}
    with pytest.raises(RecipeError, match=r"occlusion\.views must say how 'holistic' are made, it has \['library'\]"):
        train(tiny_recipe(occlusion={"views": views}), tmp_path, data=["market1501:nowhere"])


def test_a_simulator_that_cannot_be_built_is_named_before_data_is_opened(tmp_path: Path) -> None:
    wrong = {"training": [{"simulator": "box", "options": {"colour": 1}}]}
    with pytest.raises(RecipeError, match="occlusion: simulator 'box' has no option 'colour'"):
        train(tiny_recipe(occlusion=wrong), tmp_path, data=["market1501:nowhere"])


def test_generated_people_train_with_the_recipe_of_the_baseline(tmp_path: Path) -> None:
    small = ["backbone.name=test_efficientnet", "backbone.pretrained=false", "backbone.frozen_stages=0",
             "backbone.strides=[8,16]", "preprocessing.height=64", "preprocessing.width=32", "options.width=16",
             "options.global_dim=12", "options.part_dim=6", "data.cameras=3"]  # fmt: skip
    recipe = load_recipe("glimpse-baseline", small).smoke()
    kept = load_checkpoint(train(recipe, tmp_path / "out", cache=tmp_path, progress=False, limit=16))
    assert kept.population.identities == 16
    assert [source.name for source in kept.provenance.sources] == ["generated"]
    assert 0 < kept.metrics["validation_mAP"] <= 1


def test_features_take_points_only_where_the_method_does() -> None:
    class Posed(torch.nn.Module):
        pose = "given"
        schema = Tiny.from_recipe(tiny_recipe(), banded_population()).schema

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, images: torch.Tensor, points: torch.Tensor | None = None) -> Any:
            first = torch.zeros(len(images), self.schema.width)
            first[:, 0 if points is None else 1] = 1
            return first, torch.ones(len(images), 1)

    images, points = np.zeros((2, 64, 32, 3), np.uint8), np.zeros((2, 17, 3), np.float32)
    assert features_of(Posed(), images).vectors[0, 0] == 1
    assert features_of(Posed(), images, points).vectors[0, 1] == 1
    with pytest.raises(ValueError, match="Tiny takes no key-points"):
        features_of(Tiny.from_recipe(tiny_recipe(), banded_population()), images, points)


def banded_population() -> Any:
    from trainer.data.training import Population

    return Population(12, 3)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.4, "0 s"), (89, "89 s"), (100, "2 min"), (5_400, "90 min"), (7_500, "2 h 05 min")]
)
def test_time_left_is_shown_as_people_say_it(seconds: float, shown: str) -> None:
    assert _duration(seconds) == shown
