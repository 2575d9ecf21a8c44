"""T-MSPR against its specification: branches, masks, recovery, losses; and every fault that was mended."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from exporter.graph import check_parity, export_graph
from glimpse.distance import pairwise
from glimpse.parts import PartFeatures
from tests.trainer.batches import random_batch, random_images
from tests.trainer.methods import tiny
from tests.trainer.methods.tiny import CNN
from trainer.backbones import Tokens, jigsaw_order
from trainer.data.training import Population
from trainer.loop.optimiser import rate_factor
from trainer.loop.requirements import check_recipe
from trainer.losses import euclidean, soft_batch_hard_triplet
from trainer.methods.mspr import MSPR, VIEWS
from trainer.methods.mspr.masks import MaskVisibility, found_regions
from trainer.methods.mspr.recovery import choose_partners, complete_parts
from trainer.recipe import load_recipe

HEIGHT, WIDTH = 64, 32
VIT = tiny.VIT | {"camera_embedding": 3.0}
OVERLAPPING = {"name": "test_vit", "strides": [11], "patch_stride": 11}
REGIONS = ("head", "upper", "arms", "legs", "feet")
LOCALS = ["local1", "local2", "local3", "local4"]


def build(backbone: dict[str, Any] = VIT, **options: object) -> MSPR:
    method = tiny.build("mspr", backbone, **{"groups": 4} | options)
    assert isinstance(method, MSPR)
    return method


@pytest.mark.parametrize(
    ("backbone", "options"),
    [(CNN, {"visibility": "learnt", "neck": "after"}), (VIT, {}), (OVERLAPPING, {"part_features": "token"})],
)
def test_features_are_valid_and_export_without_change(backbone: dict[str, Any], options: dict[str, Any]) -> None:
    method = build(backbone, **options).eval()
    with torch.inference_mode():
        vectors, visibility = method(random_images(1, HEIGHT, WIDTH))
    features = PartFeatures(vectors.numpy(), visibility.numpy(), method.schema)
    width = method.backbone.width
    assert features.schema.names == ("global", *REGIONS)
    assert features.schema.dims == (5 * width, *[width] * 5)
    graph = export_graph(method, tiny.recipe_for("mspr", backbone).preprocessing, {})
    # The gate itself fails when features depend on batch mates, as the public code's do.
    check_parity(method, graph, random_images(5, HEIGHT, WIDTH).numpy(), batches=(1, 2, 7))


def test_every_weight_is_trained() -> None:
    method = build(VIT).train()
    terms = method.losses(random_batch(views=VIEWS))
    assert set(terms) == {"identity", "triplet", "masks", "recovery"}
    sum(terms.values()).backward()  # type: ignore[union-attr]
    assert [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None] == []


def test_an_image_does_not_depend_on_its_batch_mates() -> None:
    """The public code stretches masks by the extremes of the batch."""
    method, images = build(VIT, visibility="learnt").eval(), random_images(4, HEIGHT, WIDTH)
    with torch.no_grad():
        method.masks.classify.weight.normal_(std=1.0)
        together = method(images)
        alone = [method(images[row : row + 1]) for row in range(4)]
    for output, singles in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(output, torch.cat(singles), atol=1e-5, rtol=0)


def test_the_two_branches_start_as_copies_of_the_last_block_and_go_their_own_ways() -> None:
    method = build(VIT)
    pairs = list(zip(method.global_branch.parameters(), method.local_branch.parameters(), strict=True))
    assert all(torch.equal(one, other) and one is not other for one, other in pairs)
    assert len(method.backbone.network.blocks) == 5  # of six
    tokens = method.backbone.tokens(method.backbone.pixels(random_images(2, HEIGHT, WIDTH)))
    by_hand = method.global_branch.norm(
        method.global_branch.block(torch.cat([tokens.cls[:, None], tokens.cells], dim=1))
    )
    torch.testing.assert_close(method.global_branch(tokens.cls, tokens.cells)[0], by_hand[:, 0])


def test_local_features_are_of_the_jigsaw_groups() -> None:
    method = build(VIT, shift=3, groups=2, locals=2)
    tokens = method.backbone.tokens(method.backbone.pixels(random_images(2, HEIGHT, WIDTH)))  # 4 x 2 cells
    group = torch.cat([tokens.cls[:, None], tokens.cells[:, [5, 1, 6, 2]]], dim=1)
    expected = method.local_branch.sequence(group)[:, 0]
    torch.testing.assert_close(method._locals(tokens)["local2"], expected)


def test_six_groups_of_which_four_are_used_as_published() -> None:
    method = build({**VIT, "name": "test_vit"}, groups=6, shift=1)
    with torch.no_grad():
        tokens = Tokens(torch.zeros(1, 64), torch.randn(1, 64, 22, 11))
        assert list(method._locals(tokens)) == LOCALS


def test_part_features_are_means_by_mask() -> None:
    method = build(VIT)
    tokens = method.backbone.tokens(method.backbone.pixels(random_images(2, HEIGHT, WIDTH)))
    masks = torch.rand(2, 6, 4, 2).softmax(1)
    _, cells = method.local_branch(tokens.cls, tokens.cells)  # [N, L, D]
    parts = method._parts(tokens, masks)
    legs = masks[:, 4].flatten(1)[:, :, None]
    torch.testing.assert_close(parts["legs"], (cells * legs).sum(1) / legs.sum(1))
    person = 1 - masks[:, 0].flatten(1)[:, :, None]
    torch.testing.assert_close(parts["person"], (cells * person).sum(1) / person.sum(1))


def test_weighing_cells_before_a_layer_norm_makes_all_part_features_one_vector() -> None:
    """Why `token`, the way of the public code, is not the default: on a ViT no mask has any effect."""
    tokens = Tokens(torch.randn(2, 64), torch.randn(2, 64, 4, 2))
    masks = (3 * torch.randn(2, 6, 4, 2)).softmax(1)
    published = build(VIT, part_features="token")
    published.eval()
    with torch.no_grad():
        same = published._parts(tokens, masks)
        differing = build(VIT).eval()._parts(tokens, masks)
    for name in REGIONS:
        assert F.cosine_similarity(same[name], same["person"]).min() > 0.99999
    assert F.cosine_similarity(differing["head"], differing["feet"]).max() < 0.99


def test_masks_can_be_certain_where_the_published_ones_stay_within_a_third() -> None:
    """Six channels stretched to [0, 1] before their softmax give at most e / (e + 5) = .35."""
    method, images = build(VIT).eval(), random_images(4, HEIGHT, WIDTH)
    with torch.inference_mode():
        method.masks.classify.weight.normal_(std=3.0)
        masks = method.attention(images)
    assert masks.amax() > 0.99
    assert masks.amin() < 0.01


def test_a_region_is_found_if_one_cell_shows_it_most() -> None:
    logits = torch.zeros(2, 4, 2, 2)
    logits[0, 1, 0, 1] = 5.0
    logits[0, 3] = 1.0
    logits[1, 0] = 1.0
    assert found_regions(logits).tolist() == [[1, 0, 1], [0, 0, 0]]


def test_the_partner_is_of_the_same_person_where_there_is_one() -> None:
    features = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.4, 0.6], [-1.0, 0.2]])
    identity = torch.tensor([0, 1, 0, 0, 2])
    assert choose_partners(features, identity, "nearest").tolist() == [1, 0, 3, 2, 2]
    assert choose_partners(features, identity, "identity").tolist() == [3, 0, 3, 2, 2]
    assert choose_partners(features[:1], identity[:1], "identity").tolist() == [0]


def test_hidden_parts_are_the_partners() -> None:
    parts = torch.tensor([[[1.0], [2.0]], [[10.0], [20.0]]])
    completed = complete_parts(parts, torch.tensor([[1.0, 0.0], [0.25, 1.0]]), torch.tensor([1, 0]))
    assert completed.flatten().tolist() == [1.0, 20.0, 0.25 * 10 + 0.75 * 1, 20.0]


def test_losses_are_weighed_as_published() -> None:
    method = build(VIT).train()
    batch = random_batch(views=VIEWS)
    features: dict[str, torch.Tensor] = {}
    for name, neck in method.necks.items():
        neck.register_forward_hook(
            lambda module, inputs, output, name=name: features.update({name: inputs[0], f"{name}/bn": output})
        )
    terms = method.losses(batch)
    cross_entropies = {
        name: F.cross_entropy(method.classifiers[method._classifier_of(name)](features[f"{name}/bn"]), batch.identity)
        for name in method.necks
    }
    triplets = {name: soft_batch_hard_triplet(euclidean(features[name]), batch.identity) for name in method.necks}
    seven = ("completed", "person", *REGIONS)
    identity = (
        0.5 * sum(cross_entropies[n] for n in LOCALS) / 4
        + 0.3 * sum(cross_entropies[n] for n in seven)
        + 0.5 * sum(cross_entropies[n] for n in ("base", *VIEWS)) / 4
    )
    triplet = (
        0.5 * sum(triplets[n] for n in LOCALS) / 4
        + 0.3 * sum(triplets[n] for n in seven)
        + 0.5 * triplets["base"]
        + sum(triplets[n] for n in VIEWS)
    )
    torch.testing.assert_close(terms["identity"], identity)
    torch.testing.assert_close(terms["triplet"], triplet)
    # Logits start near 0 whatever the image, so every cell's cross-entropy is that of six equal chances.
    torch.testing.assert_close(terms["masks"], torch.tensor(0.25 * np.log(6.0)).float(), rtol=0.01, atol=0)
    parts = torch.stack([features[name] for name in REGIONS], dim=1)
    logits = method.masks(method.backbone.tokens(method.backbone.pixels(batch.images), batch.camera).grid)
    partners = choose_partners(features["base"], batch.identity, "identity")
    completed = complete_parts(parts, found_regions(logits), partners)
    torch.testing.assert_close(terms["recovery"], (parts - completed).abs().mean(), rtol=1e-3, atol=1e-5)


def test_local_and_region_share_their_classifier() -> None:
    method = build(VIT)
    assert [method._classifier_of(name) for name in (*LOCALS, *REGIONS)] == [
        "shared1", "shared2", "shared3", "shared4", "shared1", "shared2", "shared3", "shared4", "shared5"
    ]  # fmt: skip
    assert {method._classifier_of(name) for name in ("base", *VIEWS, "completed", "person")} == {
        "base", *VIEWS, "completed", "person"
    }  # fmt: skip


@pytest.mark.parametrize("mask_loss", ["cross_entropy", "mse"])
def test_masks_learn_the_regions_and_leave_unlabelled_images_alone(mask_loss: str) -> None:
    method = build(VIT, mask_loss=mask_loss).train()
    labelled = random_batch(views=VIEWS)
    terms = method.losses(labelled)
    terms["masks"].backward()
    assert method.masks.classify.weight.grad.abs().max() > 0
    unlabelled = random_batch(views=VIEWS)
    unlabelled.base.regions.fill_(255)
    assert method.losses(unlabelled)["masks"].item() == 0


def test_a_search_compares_the_published_concatenation() -> None:
    """With blocks of one length, the schema's weights make the distance that of the whole vector."""
    method, images = build(VIT).eval(), random_images(3, HEIGHT, WIDTH)
    with torch.inference_mode():
        tokens = method.backbone.tokens(method.backbone.pixels(images))
        base, _ = method.global_branch(tokens.cls, tokens.cells)
        parts = method._parts(tokens, method.masks(tokens.grid).softmax(1))
        blocks = [base, *method._locals(tokens).values(), *(parts[name] for name in REGIONS)]
        vectors, visibility = method(images)
        unit = torch.cat([F.normalize(block, dim=1) for block in blocks], dim=1) / len(blocks) ** 0.5
    width = method.backbone.width
    wide = torch.cat(blocks[:5], dim=1)
    torch.testing.assert_close(vectors[:, : 5 * width], F.normalize(wide, dim=1))
    torch.testing.assert_close(vectors[:, 5 * width : 6 * width], F.normalize(parts["head"], dim=1))
    equal = torch.cat([F.normalize(unit[:, : 5 * width], dim=1), vectors[:, 5 * width :]], dim=1)
    features = PartFeatures(equal.numpy(), visibility.numpy(), method.schema)
    np.testing.assert_allclose(pairwise(features, features)[0], 1 - (unit @ unit.T).numpy(), atol=1e-5)
    assert (visibility == 1).all()
    assert method.schema.always_visible.all()


def test_learnt_visibility_is_the_area_of_a_mask_beside_that_of_whole_ones() -> None:
    visibility = MaskVisibility(2, momentum=0.5)
    with torch.no_grad():
        visibility.area.copy_(torch.tensor([0.2, 0.4]))
    masks = torch.tensor([[0.1, 0.8]]).view(1, 2, 1, 1).expand(1, 2, 3, 2)
    torch.testing.assert_close(visibility(masks), torch.tensor([[0.5, 1.0]]))
    # The first region is whole in the first image, the second in none that is certain.
    two = torch.tensor([[0.4, 0.1], [0.9, 0.1]]).view(2, 2, 1, 1)
    visibility.learn(two, torch.tensor([[0.95, 1.0], [0.5, 0.2]]), torch.tensor([[True, False], [True, True]]))
    torch.testing.assert_close(visibility.area, torch.tensor([0.3, 0.4]))


def test_learnt_visibility_is_not_always_one() -> None:
    method = build(CNN, visibility="learnt").eval()
    with torch.inference_mode():
        method.visibility.area.fill_(1.0)
        _, visibility = method(random_images(2, HEIGHT, WIDTH))
    assert not method.schema.always_visible[1:].any()
    assert (visibility[:, 0] == 1).all()
    assert (visibility[:, 1:] < 0.5).all()


def test_the_maps_for_pictures_are_the_masks() -> None:
    method, images = build(CNN).eval(), random_images(2, HEIGHT, WIDTH)
    with torch.inference_mode():
        maps = method.attention(images)
    assert maps.shape == (2, 6, 4, 2)
    torch.testing.assert_close(maps.sum(1), torch.ones(2, 4, 2))


def test_recoloured_people_are_compared_but_not_classified() -> None:
    terms = build(CNN).train().losses(random_batch(views=VIEWS, known=[False] * 8))
    assert terms["identity"].item() == 0
    assert terms["triplet"].item() > 0


def test_more_locals_than_groups_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"options\.locals must be at most options\.groups 2, got 4"):
        build(VIT, groups=2)


def test_the_papers_recipe_has_its_grid_feature_and_schedule() -> None:
    recipe = load_recipe("mspr", ["backbone.pretrained=false"])
    with torch.device("meta"):  # shapes without numbers
        method = MSPR.from_recipe(recipe, Population(702, 8)).eval()
        vectors, _ = method(torch.zeros(1, 256, 128, 3, dtype=torch.uint8))
    assert method.backbone.grid == (22, 11)
    assert method.backbone.camera_embedding == 3.0
    assert vectors.shape == (1, 7680)
    assert method.schema.dims == (3840, *[768] * 5)
    assert len(method.backbone.network.blocks) == 11
    order = jigsaw_order(242, method.options.groups, shift=method.options.shift, shuffle=method.options.shuffle)
    assert [len(group) for group in order] == [40] * 6
    schedule = recipe.schedule
    assert (schedule.people, schedule.views, schedule.epochs) == (8, 4, 170)
    assert rate_factor(schedule, 0, 10_000) == 0.01
    assert rate_factor(schedule, round(10_000 * 5 / 170), 10_000) == pytest.approx(1.0, abs=1e-3)
    assert rate_factor(schedule, 10_000, 10_000) == pytest.approx(0.002)


@pytest.mark.parametrize("name", ["mspr", "mspr-lite"])
def test_recipes_can_be_run(name: str) -> None:
    recipe = load_recipe(name)
    check_recipe(recipe)
    assert recipe.method == "mspr"
    assert set(recipe.occlusion.views) == set(VIEWS)
