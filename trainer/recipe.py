"""The recipe: everything that decides a training run, as pydantic models, YAML and overrides.

A recipe is a YAML file in ``trainer/recipes/`` or anywhere else. ``--set schedule.steps=200`` overrides one value;
an unknown key is an error wherever it stands. The whole recipe travels in the checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from glimpse.preprocessing import Preprocessing

RECIPES = Path(__file__).parent / "recipes"


class RecipeError(ValueError):
    """A recipe that cannot be used; the message names the key and what is allowed."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BackboneRecipe(_Strict):
    """Which network, and which of its maps (`trainer.backbones`)."""

    name: str = "efficientnet_lite0"
    strides: tuple[int, ...] = (16, 32)
    pretrained: bool = True
    frozen_stages: int = Field(default=0, ge=0, description="first stages that keep their weights; 1 is the stem")
    last_stride: Literal[1, 2] = Field(default=2, description="1 keeps the resolution of the last stage (Luo et al.)")
    patch_stride: int | None = Field(default=None, ge=1, description="of a ViT with overlapping patches (TransReID)")
    camera_embedding: float = Field(
        default=0.0, ge=0, description="weight of TransReID's camera embedding (SIE), a ViT's; 0 for none"
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="passed to timm.create_model, e.g. drop_path_rate"
    )


class TeacherRecipe(_Strict):
    """Another re-ID model: OpenVINO IR (``.xml``) or ONNX, input ``(N, 3, H, W)`` of 0 to 255."""

    model: str
    bgr: bool = Field(default=True, description="whether it wants BGR, as Intel's models do")
    note: str = Field(description="whose it is, its licence, and what it was trained on: stands beside every figure")


class DataRecipe(_Strict):
    """What is drawn, held out and mixed.

    Generated people: validation identities follow the training identities. Data sets: so many identities (a tenth of
    all at the most) are held out of the training part; the test part is never looked at.
    """

    identities: int = Field(default=1000, ge=2)
    views: int = Field(default=8, ge=2, description="of each identity, spread over the cameras")
    cameras: int = Field(default=48, ge=2)
    occluded: float = Field(default=0.5, ge=0, le=1, description="share of views drawn with an occluder")
    occlusion: tuple[float, float] = Field(default=(0.2, 0.7), description="share of the person hidden: from, to")
    validation_identities: int = Field(default=200, ge=2)
    seed: int = Field(default=0, ge=0, description="of the generator, apart from the seed of the training")
    shares: dict[str, float] = Field(
        default_factory=dict, description="how often a batch's identity comes from each data set; else by their number"
    )
    annotations: dict[str, str] = Field(
        default_factory=dict, description="of each data set: a folder of `glimpse datasets annotate`"
    )
    copies: dict[str, int] = Field(
        default_factory=dict,
        description="of each data set: how many times its people appear, from the second on in other colours; 1 to 6",
    )
    teacher: TeacherRecipe | None = Field(default=None, description="a model whose embeddings the method learns from")

    @model_validator(mode="after")
    def _ordered(self) -> DataRecipe:
        low, high = self.occlusion
        if not 0 <= low <= high <= 1:
            raise ValueError(f"occlusion must be two shares in order within [0, 1], got {list(self.occlusion)}")
        if any(not 1 <= copies <= 6 for copies in self.copies.values()):
            raise ValueError(f"copies must be 1 to 6, the orders of three colour channels; got {self.copies}")
        return self


class AugmentationRecipe(_Strict):
    """Changes drawn anew for every image of every batch."""

    flip: float = Field(default=0.5, ge=0, le=1)
    shift: float = Field(default=0.05, ge=0, le=0.5, description="largest move, as a share of height and width")
    pad: int = Field(default=0, ge=0, description="pixels of black padding for a random crop of the old size")
    colour: float = Field(default=0.2, ge=0, lt=1, description="largest change of brightness and of each channel")
    blur: float = Field(default=0.2, ge=0, le=1, description="how often an image loses resolution")
    backdrop: float = Field(default=0.3, ge=0, le=1, description="how often all but the person is replaced")
    recolour: float = Field(
        default=0.3, ge=0, le=1, description="how often an identity of a batch gets other colours, all its views alike"
    )


class SimulatorRecipe(_Strict):
    """One occlusion simulator of `trainer.occlusion`, how often it acts, and its own options."""

    simulator: str
    probability: float = Field(default=1.0, ge=0, le=1)
    options: dict[str, Any] = Field(default_factory=dict)


class OcclusionRecipe(_Strict):
    """Occluders drawn into the training images, and the further versions of them that a method asks for."""

    training: tuple[SimulatorRecipe, ...] = Field(default=(), description="act on the image itself, one after another")
    views: dict[str, tuple[SimulatorRecipe, ...]] = Field(
        default_factory=dict, description="versions of the augmented image, by the names the method expects"
    )
    library: str | None = Field(default=None, description="a folder of occluder crops; left out: generated occluders")


class ScheduleRecipe(_Strict):
    """Batches, optimiser and length."""

    steps: int | None = Field(default=None, ge=1, description="optimiser steps; this or epochs")
    epochs: float | None = Field(default=None, gt=0, description="passes over as many images as there are")
    sampling: Literal["identities", "uniform"] = Field(
        default="identities", description="P x K, or P x K images drawn without regard to identity"
    )
    people: int = Field(default=16, ge=1, description="identities in a batch (P)")
    views: int = Field(default=4, ge=1, description="images of each identity in a batch (K)")
    accumulate: int = Field(default=1, ge=1, description="batches whose gradients make one step")
    small: float = Field(
        default=0.0, ge=0, le=1, description="share of the steps, the first ones, at two thirds of height and width"
    )
    optimiser: Literal["adamw", "adam", "sgd"] = "adamw"
    momentum: float = Field(default=0.9, ge=0, lt=1, description="of sgd")
    nesterov: bool = Field(default=False, description="of sgd")
    learning_rate: float = Field(default=2e-3, gt=0)
    backbone_rate: float = Field(default=0.3, ge=0, description="factor on the learning rate of the backbone")
    bias_rate: float = Field(default=1.0, gt=0, description="factor on the learning rate of biases")
    weight_decay: float = Field(default=1e-2, ge=0)
    decay_all: bool = Field(default=False, description="weight decay on biases and norms too")
    warmup: float = Field(default=0.1, ge=0, lt=1, description="share of the steps")
    warmup_from: float = Field(default=0.0, ge=0, le=1, description="factor at the first step")
    decay: Literal["cosine", "multistep"] = "cosine"
    final: float = Field(default=0.0, ge=0, le=1, description="factor that cosine decay ends at")
    milestones: tuple[float, ...] = Field(default=(), description="of multistep: shares of the steps")
    gamma: float = Field(default=0.1, gt=0, le=1, description="of multistep: factor at each milestone")
    clip: float = Field(default=5.0, ge=0, description="largest norm of the gradient; 0 for any")
    precision: Literal["32", "bf16", "16"] = "32"
    validate_every: int = Field(default=200, ge=1, description="steps")
    workers: int = Field(default=0, ge=0, description="processes that load and augment")

    @model_validator(mode="after")
    def _one_length(self) -> ScheduleRecipe:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs, the other null")
        if self.sampling == "identities" and (self.people < 2 or self.views < 2):
            raise ValueError("P x K sampling needs people and views of at least 2")
        return self

    def length(self, images: int) -> int:
        """Steps of the whole training over so many images."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return max(1, round(self.epochs * images / (self.people * self.views * self.accumulate)))


class Recipe(_Strict):
    """A training run, but for its seed."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    method: str
    options: dict[str, Any] = Field(default_factory=dict)
    """Checked by the method's own model."""
    backbone: BackboneRecipe = BackboneRecipe()
    preprocessing: Preprocessing = Preprocessing(height=192, width=96, interpolation="area")
    data: DataRecipe = DataRecipe()
    augmentation: AugmentationRecipe = AugmentationRecipe()
    occlusion: OcclusionRecipe = OcclusionRecipe()
    schedule: ScheduleRecipe = ScheduleRecipe(steps=1000)

    def smoke(self) -> Recipe:
        """The same run in about a minute: a few dozen people, a handful of steps. It proves the path only."""
        small = self.data.model_copy(update={"identities": 24, "views": 4, "validation_identities": 8})
        short = {
            "steps": 6,
            "epochs": None,
            "people": 4,
            "views": 4,
            "validate_every": 6,
            "accumulate": 1,
            "workers": 0,
        }
        return self.model_copy(update={"data": small, "schedule": self.schedule.model_copy(update=short)})


def recipe_names() -> list[str]:
    """The recipes that come with Glimpse."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe by name or path, with ``key.key=value`` overrides whose values are read as YAML.

    Raises:
        RecipeError: no such recipe, not YAML, an unknown key or a value out of range.
    """
    import yaml  # the extra `train`; evaluation reads no recipes

    path = Path(name) if name.endswith((".yaml", ".yml")) else RECIPES / f"{name}.yaml"
    if not path.is_file():
        raise RecipeError(f"no recipe {name!r}; choose from {recipe_names()} or give the path of a .yaml file")
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path.name} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{path.name} must be a mapping of keys, got {type(values).__name__}")
    for override in overrides:
        _set(values, override)
    return parse_recipe(values)


def parse_recipe(values: dict[str, Any]) -> Recipe:
    """A recipe from its dictionary, the method's options included; RecipeError names the first problem."""
    from trainer.methods import find_method

    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(_first_problem(error, Recipe)) from error
    try:
        options = find_method(recipe.method).load().Options
    except ValueError as error:
        raise RecipeError(str(error)) from error
    try:
        options.model_validate(recipe.options)
    except ValidationError as error:
        raise RecipeError(_first_problem(error, options, "options.")) from error
    return recipe


def _set(values: dict[str, Any], override: str) -> None:
    import yaml

    key, sign, text = override.partition("=")
    if not sign or not key.strip():
        raise RecipeError(f"override {override!r}: expected key.key=value, for example schedule.steps=200")
    *parents, last = key.strip().split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise RecipeError(f"override {override!r}: {parent!r} is a value, not a group of keys")
    try:
        values[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"override {override!r}: the value is not YAML: {error}") from error


def _first_problem(error: ValidationError, model: type[BaseModel], prefix: str = "") -> str:
    first = error.errors()[0]
    where = prefix + ".".join(str(step) for step in first["loc"])
    if first["type"] == "extra_forbidden":
        *groups, _ = first["loc"]
        return f"unknown key {where!r} in the recipe; choose from {sorted(_group(model, groups).model_fields)}"
    return f"{where or 'recipe'}: {first['msg']}, got {first['input']!r}"


def _group(model: type[BaseModel], steps: Sequence[int | str]) -> type[BaseModel]:
    """The model that a path leads to; numbers of list items and names in mappings lead no deeper."""
    for step in steps:
        if (field := model.model_fields.get(str(step))) is not None:
            model = next(_models(field.annotation), model)
    return model


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)
