"""The recipes of the published methods against their papers: learning rates by epoch, sampling, augmentation."""

from __future__ import annotations

import pytest

from tests.trainer.methods.tiny import build
from trainer.loop.optimiser import parameter_groups, rate_factor
from trainer.loop.requirements import check_recipe
from trainer.recipe import Recipe, load_recipe

FULL = ("bot", "afpb", "pgfa", "isp")


def factor(recipe: Recipe, epoch: float) -> float:
    """On the learning rate, so many epochs into the training, of 1,000 steps each."""
    assert recipe.schedule.epochs is not None
    return rate_factor(recipe.schedule, round(1000 * epoch), round(1000 * recipe.schedule.epochs))


@pytest.mark.parametrize("name", [*FULL, *(f"{name}-lite" for name in FULL)])
def test_recipes_can_be_trained(name: str) -> None:
    check_recipe(load_recipe(name))


@pytest.mark.parametrize("name", ["bot", "afpb", "isp"])
def test_the_strong_baselines_schedule_warms_up_for_10_epochs_and_steps_down_at_40_and_70(name: str) -> None:
    recipe = load_recipe(name)
    schedule = recipe.schedule
    assert (schedule.optimiser, schedule.learning_rate, schedule.weight_decay) == ("adam", 3.5e-4, 5e-4)
    assert (schedule.epochs, schedule.people, schedule.views, schedule.sampling) == (120, 16, 4, "identities")
    assert schedule.decay_all
    for epoch, expected in ((0, 0.01), (5, 0.505), (10, 1), (39.99, 1), (40.01, 0.1), (69.99, 0.1), (70.01, 0.01)):
        assert factor(recipe, epoch) == pytest.approx(expected, rel=1e-3), epoch


def test_pgfas_schedule_steps_down_once_and_its_backbone_learns_at_a_tenth() -> None:
    recipe = load_recipe("pgfa")
    schedule = recipe.schedule
    assert (schedule.optimiser, schedule.nesterov, schedule.momentum) == ("sgd", True, 0.9)
    assert (schedule.epochs, schedule.people * schedule.views, schedule.sampling) == (60, 32, "uniform")
    for epoch, expected in ((0, 1), (39.99, 1), (40.01, 0.1), (59.9, 0.1)):
        assert factor(recipe, epoch) == pytest.approx(expected), epoch
    rates = {
        group["name"].split("_")[0]: group["lr"]
        for group in parameter_groups(build("pgfa").named_parameters(), schedule)
    }
    assert rates == pytest.approx({"backbone": 0.01, "head": 0.1})


@pytest.mark.parametrize("name", FULL)
def test_full_size_recipes_change_colours_of_nobody(name: str) -> None:
    augmentation = load_recipe(name).augmentation
    assert augmentation.flip == 0.5
    assert augmentation.pad == (0 if name == "pgfa" else 10)
    assert augmentation.shift == augmentation.colour == augmentation.blur == 0
    assert augmentation.backdrop == augmentation.recolour == 0


@pytest.mark.parametrize(("name", "fill"), [("bot", "mean"), ("pgfa", "mean"), ("isp", "image")])
def test_half_of_all_images_are_erased_where_the_paper_says_so(name: str, fill: str) -> None:
    (step,) = load_recipe(name).occlusion.training
    assert (step.simulator, step.probability) == ("erasing", 0.5)
    assert step.options.get("fill", "mean") == fill


@pytest.mark.parametrize("name", ["afpb", "afpb-lite", "pgfa", "pgfa-lite"])
def test_methods_that_only_classify_recolour_nobody(name: str) -> None:
    assert load_recipe(name).augmentation.recolour == 0
