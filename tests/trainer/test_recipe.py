"""Recipes: what is refused, and what an override changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.recipe import RecipeError, load_recipe, recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_that_comes_with_glimpse_loads(name: str) -> None:
    assert load_recipe(name).name == name


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("schedule.stepz=3", r"unknown key 'schedule.stepz' in the recipe; choose from \['accumulate', .*'steps', "),
        ("colour=red", r"unknown key 'colour' in the recipe; choose from \['augmentation', 'backbone', "),
        ("options.widht=3", r"unknown key 'options.widht' in the recipe; choose from .*'width'\]"),
        (
            "occlusion.training=[{simulator: box, chance: 1}]",
            r"unknown key 'occlusion.training.0.chance' in the recipe; choose from \['options', 'probability', ",
        ),
        (
            "occlusion.views={hidden: [{simulator: box, chance: 1}]}",
            r"unknown key 'occlusion.views.hidden.0.chance' in the recipe; choose from \['options', 'probability', ",
        ),
        ("schedule.steps=0", "schedule.steps: .*greater than or equal to 1"),
        ("schedule.steps", "expected key.key=value"),
        ("name.first=x", "'name' is a value"),
        ("method=magic", "unknown method 'magic'; choose from"),
        ("name=[1", "override 'name=\\[1': the value is not YAML"),
        ("data.occlusion=[0.7, 0.2]", "in order"),
    ],
)
def test_a_wrong_override_is_named(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("glimpse-baseline", [override])


def test_overrides_change_what_they_name_and_nothing_else() -> None:
    plain = load_recipe("glimpse-baseline")
    changed = load_recipe("glimpse-baseline", ["schedule.steps=7", "backbone.strides=[16, 32]", "options.part_dim=32"])
    assert changed.schedule.steps == 7
    assert changed.backbone.strides == (16, 32)
    assert changed.options == plain.options | {"part_dim": 32}
    assert changed.data == plain.data


def test_an_unknown_recipe_lists_the_choices(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="glimpse-baseline"):
        load_recipe("nonsense")
    with pytest.raises(RecipeError, match="path"):
        load_recipe(str(tmp_path / "missing.yaml"))


def test_a_recipe_from_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nmethod: glimpse\nschedule: {steps: 5}\n")
    assert load_recipe(str(path)).schedule.steps == 5
    path.write_text("- a list\n")
    with pytest.raises(RecipeError, match="mapping"):
        load_recipe(str(path))
