"""What every published method of ours promises, whatever its backbone and image size; and where they differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from exporter.graph import check_parity, export_graph
from glimpse.parts import PartFeatures
from tests.trainer.batches import random_batch, random_images
from tests.trainer.methods.tiny import CNN, MAPS, PEOPLE, VIT, build, recipe_for
from trainer.methods import METHODS, find_method
from trainer.recipe import load_recipe, recipe_names

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("bot", {"centre_weight": 5e-4}),
    ("afpb", {}),
    ("pgfa", {"pose": "given"}),
    ("pgfa", {"pose": "given", "part_feat": "reduced256"}),
    ("pgfa", {"pose": "distilled", "stripes": 6}),
    ("isp", {"width": 16, "centre_weight": 5e-4}),
    ("isp", {"width": 16, "visibility": "mass", "joint_triplet": True}),
    ("isp", {"width": 16, "aligned": False, "attention": False, "big_global": True}),
]
NAMES = [f"{method}-{'-'.join(f'{key}={value}' for key, value in options.items())}" for method, options in VARIANTS]
EXPORTED = [VARIANTS[i] for i in (0, 1, 2, 4, 5, 6)]  # exporting takes seconds; the others add no operator
variants = pytest.mark.parametrize(("method", "options"), VARIANTS, ids=NAMES)


@variants
@pytest.mark.parametrize(
    ("backbone", "size"),
    [
        (CNN, (64, 32)),
        (MAPS, (96, 64)),
        (VIT, (64, 32)),
        ({"name": "mobilenetv3_small_050", "strides": [16]}, (112, 48)),
    ],
    ids=["resnet", "three maps", "vit", "mobilenet at an odd size"],
)
@pytest.mark.parametrize("count", [1, 3])
def test_features_are_valid_of_one_image_and_of_several(
    method: str, options: dict[str, Any], backbone: dict[str, Any], size: tuple[int, int], count: int
) -> None:
    """Public code squeezes its tensors, and a batch of one loses its batch dimension."""
    built = build(method, backbone, size=size, **options).eval()
    with torch.inference_mode():
        vectors, visibility = built(random_images(count, *size))
    features = PartFeatures(vectors.numpy(), visibility.numpy(), built.schema)
    assert len(features) == count
    assert built.schema.names[0] == "global"
    assert built.schema.always_visible.tolist() == [True] + [False] * (len(built.schema) - 1)


@variants
def test_an_embedding_does_not_depend_on_its_batch_mates(method: str, options: dict[str, Any]) -> None:
    built, images = build(method, MAPS, **options).eval(), random_images(4)
    with torch.inference_mode():
        together = built(images)
        alone = [built(images[row : row + 1]) for row in range(4)]
    for output, singles in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(output, torch.cat(singles), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("method", "options"), EXPORTED, ids=[method for method, _ in EXPORTED])
def test_the_exported_graph_computes_the_same(method: str, options: dict[str, Any]) -> None:
    # 112 rows make 7 cells, which neither 3 nor 6 stripes divide.
    recipe = recipe_for(method, CNN, size=(112, 48), **options)
    built = build(method, CNN, size=(112, 48), **options).eval()
    graph = export_graph(built, recipe.preprocessing, {})
    check_parity(built, graph, random_images(3, 112, 48).numpy(), batches=(1, 2, 5))


@variants
def test_every_weight_is_trained(method: str, options: dict[str, Any]) -> None:
    built = build(method, MAPS, **options)
    terms = built.losses(random_batch(views=getattr(built, "views", ()), pseudo=5))
    assert all(torch.isfinite(term) and term.ndim == 0 for term in terms.values())
    sum(terms.values()).backward()
    assert [name for name, p in built.named_parameters() if p.requires_grad and p.grad is None] == []


@variants
def test_recoloured_people_are_never_classified(method: str, options: dict[str, Any]) -> None:
    built = build(method, CNN, **options)
    terms = built.losses(random_batch(views=getattr(built, "views", ()), pseudo=5, known=[False] * 8))
    classified = {name for name in terms if name.startswith("identity") or name in ("stripes", "global", "centre")}
    assert classified
    assert all(terms[name].item() == 0 for name in classified)
    sum(terms.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in built.parameters() if p.grad is not None)


def test_the_methods_differ_where_their_papers_differ() -> None:
    facts = {}
    for method, options in VARIANTS[:6]:
        built = build(method, CNN, **options)
        terms = built.losses(random_batch(views=getattr(built, "views", ()), pseudo=5))
        facts.setdefault(method, []).append((built.schema.describe(), frozenset(terms), getattr(built, "views", ())))
    channels = 96
    triplets = {"triplet_whole", "triplet_fore", "triplet_part"}
    identities = {"identity_whole", "identity_fore", "identity_part"}
    parts = ", ".join(f"part{k}:16" for k in range(1, 6))
    raw, reduced = (", ".join(f"stripe{k}:{dim}" for k in (1, 2, 3)) for dim in (channels, 256))
    six = ", ".join(f"stripe{k}:{channels}" for k in range(1, 7))
    assert facts == {
        "bot": [(f"global:{channels}", {"identity", "triplet", "centre"}, ())],
        "afpb": [(f"global:{channels}", {"identity", "occluded"}, ("occluded",))],
        "pgfa": [
            (f"global:256, {raw}", {"stripes", "global"}, ()),
            (f"global:256, {reduced}", {"stripes", "global"}, ()),
            (f"global:256, {six}", {"stripes", "global", "heat_maps", "seen"}, ()),
        ],
        "isp": [(f"global:32, {parts}", triplets | identities | {"pixel", "centre"}, ())],
    }


def test_heads_are_those_of_the_papers() -> None:
    heads = {
        method: {name for name, _ in build(method, CNN, **options).named_children()} - {"backbone"}
        for method, options in [*VARIANTS[:3], VARIANTS[5]]
    }
    assert heads == {
        "bot": {"neck", "classifier", "centres"},
        "afpb": {"identify", "judge"},
        "pgfa": {"whole", "parts"},
        "isp": {"reduce", "attend", "classify", "necks", "classifiers", "centres"},
    }


@pytest.mark.parametrize(
    "name", [f"{method}{kind}" for method in ("bot", "afpb", "pgfa", "isp") for kind in ("", "-lite")]
)
def test_recipes_make_the_views_their_method_reads(name: str) -> None:
    assert name in recipe_names()
    recipe = load_recipe(name)
    method = find_method(recipe.method).load()
    assert name.removesuffix("-lite") == recipe.method
    assert set(getattr(method, "views", ())) == set(recipe.occlusion.views)
    assert METHODS[recipe.method].paper


def test_no_lite_recipe_needs_a_pose_at_test_time() -> None:
    recipe = load_recipe("pgfa-lite")
    assert recipe.options["pose"] == "distilled"
    assert load_recipe("pgfa").options.get("pose", "given") == "given"
    assert np.prod([recipe.preprocessing.height, recipe.preprocessing.width]) == 256 * 128


@pytest.mark.parametrize(
    ("name", "grid", "dims"),
    [
        ("bot", (2048, 16, 8), (2048,)),
        ("afpb", (2048, 8, 4), (2048,)),
        ("pgfa", (2048, 24, 8), (256, 2048, 2048, 2048)),
        ("isp", (1920, 64, 32), (512, 256, 256, 256, 256, 256)),
    ],
)
def test_full_size_recipes_have_the_maps_and_features_of_the_papers(
    name: str, grid: tuple[int, int, int], dims: tuple[int, ...]
) -> None:
    recipe = load_recipe(name, ["backbone.pretrained=false"])
    with torch.device("meta"):  # shapes without numbers
        method = find_method(name).load().from_recipe(recipe, PEOPLE).eval()
        images = torch.zeros(1, recipe.preprocessing.height, recipe.preprocessing.width, 3, dtype=torch.uint8)
        assert method.backbone(images).shape == (1, *grid)
        vectors, visibility = method(images)
    assert method.schema.dims == dims
    assert vectors.shape == (1, sum(dims))
    assert visibility.shape == (1, len(dims))
