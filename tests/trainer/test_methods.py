"""Methods and backbones: valid features from any backbone, and embeddings that ignore their batch mates."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch

from glimpse.parts import PartFeatures
from glimpse.people import PARTS
from tests.trainer.batches import random_batch
from trainer.backbones import create_backbone, efficientnet_lite0_weights, load_matching
from trainer.data.batch import Batch
from trainer.data.training import Population
from trainer.heads import attend
from trainer.methods import find_method
from trainer.recipe import Recipe, parse_recipe

HEIGHT, WIDTH = 64, 32


def recipe_for(backbone: str, strides: list[int], **options: object) -> Recipe:
    return parse_recipe(
        {
            "name": "test",
            "method": "glimpse",
            "options": {"width": 16, "global_dim": 12, "part_dim": 6, **options},
            "backbone": {"name": backbone, "strides": strides, "pretrained": False},
            "preprocessing": {"height": HEIGHT, "width": WIDTH},
        }
    )


def random_images(count: int, seed: int = 0) -> torch.Tensor:
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.integers(0, 256, (count, HEIGHT, WIDTH, 3), dtype=np.uint8))


PEOPLE = Population(5, 2)


@pytest.mark.parametrize(
    ("backbone", "strides"),
    [("mobilenetv3_small_050", [8, 16]), ("resnet10t", [16, 32]), ("efficientnet_lite0", [32])],
)
def test_features_are_valid_whatever_the_backbone(backbone: str, strides: list[int]) -> None:
    network = find_method("glimpse").load().from_recipe(recipe_for(backbone, strides), PEOPLE).eval()
    with torch.inference_mode():
        vectors, visibility = network(random_images(3))
    features = PartFeatures(vectors.numpy(), visibility.numpy(), network.schema)
    assert features.schema.names == PARTS


def test_a_global_part_that_is_always_visible_is_exactly_that() -> None:
    recipe = recipe_for("mobilenetv3_small_050", [16], global_always_visible=True)
    built = find_method("glimpse").load().from_recipe(recipe, PEOPLE).eval()
    with torch.inference_mode():
        vectors, visibility = built(random_images(2))
    assert (visibility[:, 0] == 1).all()
    PartFeatures(vectors.numpy(), visibility.numpy(), built.schema)


def test_an_embedding_does_not_depend_on_its_batch_mates() -> None:
    network = find_method("glimpse").load().from_recipe(recipe_for("mobilenetv3_small_050", [8, 16]), PEOPLE).eval()
    images = random_images(6)
    with torch.inference_mode():
        together = network(images)
        alone = [network(images[row : row + 1]) for row in range(6)]
    for output, singles in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(output, torch.cat(singles), atol=1e-5, rtol=0)


def test_every_trained_weight_gets_a_gradient_and_frozen_stages_get_none() -> None:
    recipe = recipe_for("mobilenetv3_small_050", [8, 16, 32]).model_copy(
        update={
            "backbone": recipe_for("mobilenetv3_small_050", [8, 16, 32]).backbone.model_copy(
                update={"frozen_stages": 2}
            )
        }
    )
    network = find_method("glimpse").load().from_recipe(recipe, PEOPLE).train()
    terms = network.losses(random_batch(8, HEIGHT, WIDTH, known=[True] * 4 + [False] * 4))
    assert set(terms) == {"identity", "global", "triplet", "map", "visibility"}
    sum(terms.values()).backward()
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert any(name.startswith("backbone.network.conv_stem") for name in frozen)
    assert any(name.startswith("backbone.network.blocks.0") for name in frozen)
    assert not any(name.startswith("backbone.network.blocks.1") for name in frozen)
    without = [
        name for name, parameter in network.named_parameters() if parameter.requires_grad and parameter.grad is None
    ]
    assert without == []
    assert not network.backbone.network.bn1.training  # statistics of frozen stages stay too


def teach(network: torch.nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {name: term.detach() for name, term in network.losses(batch).items()}


def test_a_teacher_is_heard_for_images_it_saw_and_for_no_recoloured_ones() -> None:
    recipe = recipe_for("mobilenetv3_small_050", [16], teacher_weight=1.0, relation_weight=1.0)
    network = find_method("glimpse").load().from_recipe(recipe, PEOPLE).eval()
    batch = random_batch(8, HEIGHT, WIDTH)
    assert "teacher" not in teach(network, batch)
    with torch.inference_mode():
        vectors, _ = network(batch.images)
    batch.teacher = vectors[:, :12].clone()
    perfect = teach(network, batch)
    assert float(perfect["teacher"]) == pytest.approx(0, abs=1e-5)
    batch.teacher[0] = -batch.teacher[0]
    assert float(teach(network, batch)["teacher"]) == pytest.approx(2 / 8, abs=1e-4)
    batch.known[0] = False
    assert float(teach(network, batch)["teacher"]) == pytest.approx(0, abs=1e-5)
    batch.teacher[:] = torch.nan
    silent = teach(network, batch)
    assert float(silent["teacher"]) == 0
    assert float(silent["relation"]) == 0


def test_occluded_twins_agree_on_what_both_show() -> None:
    recipe = recipe_for("mobilenetv3_small_050", [16], twin_weight=1.0)
    network = find_method("glimpse").load().from_recipe(recipe, PEOPLE).eval()
    assert network.views == ("twin",)
    batch = random_batch(8, HEIGHT, WIDTH, views=["twin"])
    assert float(teach(network, batch)["twin"]) > 1e-3
    batch.views["twin"] = batch.base
    assert float(teach(network, batch)["twin"]) == pytest.approx(0, abs=1e-5)


def test_an_embedding_to_start_from_needs_a_backbone_that_brings_one() -> None:
    with pytest.raises(ValueError, match="brings none"):
        find_method("glimpse").load().from_recipe(recipe_for("resnet10t", [16], global_pool="embed"), PEOPLE)


def test_attention_sums_to_one_in_every_cell() -> None:
    network = find_method("glimpse").load().from_recipe(recipe_for("resnet10t", [16]), PEOPLE).eval()
    with torch.inference_mode():
        attention = network.attention(random_images(2))
    assert attention.shape == (2, len(PARTS), HEIGHT // 16, WIDTH // 16)
    torch.testing.assert_close(attention.sum(1), torch.ones(2, 4, 2))


def test_attended_mean_is_weighted_by_the_attention() -> None:
    features = torch.tensor([[[[1.0, 3.0]], [[10.0, 30.0]]]])  # one image, two channels, two cells
    attention = torch.tensor([[[[0.25, 0.75]], [[0.0, 0.0]]]])
    pooled = attend(features, attention)
    torch.testing.assert_close(pooled[0, 0], torch.tensor([2.5, 25.0]))
    torch.testing.assert_close(pooled[0, 1], torch.zeros(2))


def test_imagenet_weights_fill_every_tensor_of_the_whole_network() -> None:
    network = timm.create_model("tf_efficientnet_lite0")
    assert set(efficientnet_lite0_weights()) == set(network.state_dict())
    load_matching(network, efficientnet_lite0_weights())


def test_missing_weights_are_an_error() -> None:
    weights = efficientnet_lite0_weights()
    del weights["conv_stem.weight"]
    with pytest.raises(ValueError, match=r"lack 1 tensors of the backbone, first \['conv_stem.weight'\]"):
        load_matching(timm.create_model("tf_efficientnet_lite0"), weights)


@pytest.mark.parametrize(
    ("name", "strides", "frozen", "message"),
    [
        ("efficientnet_lite9", (16,), 0, "unknown backbone 'efficientnet_lite9'; own names are"),
        ("efficientnet_lite0", (16, 64), 0, "has maps of stride"),
        ("efficientnet_lite0", (32, 16), 0, "finest first"),
        ("mobilenetv3_small_050", (16,), 50, "frozen must be at most"),
    ],
)
def test_an_impossible_backbone_says_what_is_possible(
    name: str, strides: tuple[int, ...], frozen: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        create_backbone(name, strides, pretrained=False, frozen=frozen)
