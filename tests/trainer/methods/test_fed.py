"""FED against its specification: gates, labels, memories, diffusion, losses; and every fault that was mended."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from exporter.graph import check_parity, export_graph
from glimpse.parts import PartFeatures
from tests.trainer.batches import random_batch, random_images
from tests.trainer.methods import tiny
from tests.trainer.methods.tiny import CNN
from trainer.data.training import Population
from trainer.loop.optimiser import rate_factor
from trainer.loop.requirements import check_recipe
from trainer.losses import memory_nce
from trainer.methods.fed import FED
from trainer.methods.fed.diffusion import CrossAttention, FeatureDiffusion
from trainer.methods.fed.erasing import OcclusionErasing, stripe_coverage, visible_stripes
from trainer.occlusion.coverage import fed_labels
from trainer.recipe import load_recipe

HEIGHT, WIDTH = 64, 32
VIT = tiny.VIT | {"camera_embedding": 3.0}
OVERLAPPING = {"name": "test_vit", "strides": [12], "patch_stride": 12}


def build(backbone: dict[str, Any] = VIT, **options: object) -> FED:
    method = tiny.build("fed", backbone, **options)
    assert isinstance(method, FED)
    return method


class Context:
    """Eight images of four people, as `begin_epoch` sees them."""

    epoch = 0
    identities = np.arange(8) // 2

    def images(self, rows: Any) -> np.ndarray:
        return random_images(8, HEIGHT, WIDTH).numpy()[np.asarray(rows)]

    def set_pseudo_labels(self, rows: Any, labels: Any) -> None:
        raise AssertionError("fed makes no labels")


@pytest.mark.parametrize(("backbone", "parts"), [(CNN, False), (VIT, True), (OVERLAPPING, False)])
def test_features_are_valid_and_export_without_change(backbone: dict[str, Any], parts: bool) -> None:
    method = build(backbone, parts=parts).eval()
    with torch.inference_mode():
        vectors, visibility = method(random_images(1, HEIGHT, WIDTH))
    features = PartFeatures(vectors.numpy(), visibility.numpy(), method.schema)
    width = method.backbone.width
    assert features.schema.dims == ((width,) * 5 if parts else (4 * width,))
    assert features.schema.names[0] == "global"
    assert features.schema.always_visible[0]
    graph = export_graph(method, tiny.recipe_for("fed", backbone).preprocessing, {})
    check_parity(method, graph, random_images(5, HEIGHT, WIDTH).numpy(), batches=(1, 2, 7))


def test_every_weight_is_trained() -> None:
    method = build(CNN)
    method.begin_epoch(Context())
    terms = method.train().losses(random_batch(views=["occluded"]))
    assert set(terms) == {"gates", "identity", "diffused", "token", "memory", "diffused_memory"}
    sum(terms.values()).backward()  # type: ignore[union-attr]
    assert [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None] == []


def test_the_image_token_is_the_class_token() -> None:
    """The public code takes x[:, 1], the upper left patch."""
    method = build(VIT, parts=True).eval()
    images = random_images(2, HEIGHT, WIDTH)
    last: list[torch.Tensor] = []
    method.backbone.network.norm.register_forward_hook(lambda module, inputs, output: last.append(output))
    with torch.inference_mode():
        vectors, _ = method(images)
    torch.testing.assert_close(vectors[:, : method.backbone.width], F.normalize(last[0][:, 0], dim=1))


def test_stripes_are_means_of_whole_rows_of_tokens() -> None:
    method = build(VIT)
    grid = torch.arange(32.0).view(1, 1, 8, 4)
    stripes = method._stripes(type(method.backbone.tokens(torch.zeros(1, 3, 64, 32)))(torch.zeros(1, 1), grid))
    assert stripes.flatten().tolist() == [3.5, 11.5, 19.5, 27.5]


def test_a_gate_multiplies_its_stripe_before_the_batch_norm() -> None:
    method = build(CNN).eval()
    images = random_images(2, HEIGHT, WIDTH)
    with torch.inference_mode():
        tokens, gates, features = method._describe(images)
        stripes = tokens.grid.unflatten(2, (4, -1)).mean((3, 4)).transpose(1, 2)  # [N, S, D]
        expected = method.neck((stripes * gates[:, :, None]).flatten(1))
        vectors, _ = method(images)
    torch.testing.assert_close(features, expected)
    torch.testing.assert_close(vectors, F.normalize(expected, dim=1))


def test_gates_are_two_linear_layers_with_a_norm_between() -> None:
    erasing = OcclusionErasing(8, 3)
    shapes = [tuple(p.shape) for p in erasing.gates[0].parameters()]
    assert shapes == [(2, 8), (2,), (2,), (2,), (1, 2), (1,)]
    gates = erasing(torch.randn(5, 3, 8))
    assert gates.shape == (5, 3)
    assert ((gates > 0) & (gates < 1)).all()


@pytest.mark.parametrize(
    ("rows", "expected"),
    [((192, 256), [1, 1, 1, 0]), ((186, 256), [1, 1, 1, 0]), ((166, 256), [1, 1, 0, 0]), ((128, 256), [1, 1, 0, 0])],
)
def test_the_published_rule_labels_occluders_from_below(rows: tuple[int, int], expected: list[int]) -> None:
    covered = torch.zeros(1, 256, 128, dtype=torch.bool)
    covered[:, rows[0] : rows[1]] = True
    assert visible_stripes(stripe_coverage(covered, 4), "legacy").tolist() == [expected]


def test_an_occluder_of_full_height_is_seen_by_fraction_and_not_by_the_published_rule() -> None:
    covered = torch.zeros(2, 256, 128, dtype=torch.bool)
    covered[0, :, :48] = True
    coverage = stripe_coverage(covered, 4)
    assert visible_stripes(coverage, "legacy").tolist() == [[1] * 4] * 2
    torch.testing.assert_close(visible_stripes(coverage, "fraction")[0], torch.full((4,), 0.625))
    assert visible_stripes(coverage, "fraction")[1].tolist() == [1] * 4


@pytest.mark.parametrize("rule", ["fraction", "legacy"])
@pytest.mark.parametrize("stripes", [2, 4, 7])
def test_labels_are_those_of_the_simulators(rule: Any, stripes: int) -> None:
    random = np.random.default_rng(0)
    masks = np.zeros((40, 50, 20), np.bool_)
    for mask in masks[1:]:
        top, left = random.integers(0, 50), random.integers(0, 20)
        mask[top : top + random.integers(1, 51), left : left + random.integers(1, 21)] = True
    ours = visible_stripes(stripe_coverage(torch.from_numpy(masks), stripes), rule)
    np.testing.assert_allclose(ours.numpy(), fed_labels(masks, rule, stripes=stripes), atol=1e-6)


def test_memories_start_from_ungated_identity_means_and_are_two_tensors() -> None:
    method = build(CNN)
    method.begin_epoch(Context())
    assert method.training
    with torch.no_grad():
        method.eval()
        tokens = method.backbone.tokens(method.backbone.pixels(random_images(8, HEIGHT, WIDTH)))
        stripes = method.neck(method._stripes(tokens).flatten(1))
    expected = stripes.view(4, 2, -1).mean(1)
    torch.testing.assert_close(method.memory.centres, expected)
    torch.testing.assert_close(method.diffused_memory.centres, expected)
    assert method.memory.centres.data_ptr() != method.diffused_memory.centres.data_ptr()


def test_a_filled_memory_is_not_filled_again() -> None:
    method = build(CNN)
    method.begin_epoch(Context())
    method.memory.update(torch.zeros(1, method.memory.centres.shape[1]), torch.tensor([0]))
    before = method.memory.centres.clone()
    method.begin_epoch(Context())
    torch.testing.assert_close(method.memory.centres, before)


def test_memories_move_after_the_step_each_by_its_own_unoccluded_features() -> None:
    method = build(CNN)
    method.begin_epoch(Context())
    before = method.memory.centres.clone()
    batch = random_batch(views=["occluded"], known=[True] * 6 + [False] * 2)
    captured: list[torch.Tensor] = []
    method.diffused_neck.register_forward_hook(lambda module, inputs, output: captured.append(output.detach()))
    method.neck.register_forward_hook(lambda module, inputs, output: captured.append(output.detach()))
    sum(method.losses(batch).values()).backward()  # type: ignore[union-attr]
    torch.testing.assert_close(method.memory.centres, before)  # neither forward nor backward moves them
    method.after_step(batch)
    first, second = captured
    for memory, features in ((method.memory, first), (method.diffused_memory, second)):
        # Two images of each identity, in order: c <- .2 (.2 c + .8 f) + .8 f'.
        expected = 0.04 * before[:3] + 0.16 * features[:6:2] + 0.8 * features[1:6:2]
        torch.testing.assert_close(memory.centres[:3], expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(memory.centres[3], before[3])  # its images are recoloured: nobody's
    assert not torch.allclose(method.memory.centres, method.diffused_memory.centres)
    moved = method.memory.centres.clone()
    method.after_step(batch)
    torch.testing.assert_close(method.memory.centres, moved)  # once a batch


def test_every_batch_of_an_accumulated_step_moves_the_memory() -> None:
    method, batch = build(CNN), random_batch(views=["occluded"])
    method.begin_epoch(Context())
    method.losses(batch)
    method.losses(batch)
    assert len(method._met) == 2
    method.after_step(batch)
    assert method._met == []


def test_losses_are_weighed_as_published() -> None:
    method = build(CNN).train()
    method.begin_epoch(Context())
    batch = random_batch(views=["occluded"])
    captured: list[torch.Tensor] = []
    method.neck.register_forward_hook(lambda module, inputs, output: captured.append(output.detach()))
    method.diffused_neck.register_forward_hook(lambda module, inputs, output: captured.append(output.detach()))
    method.erasing.register_forward_hook(lambda module, inputs, output: captured.append(output.detach()))
    terms = method.losses(batch)
    gates, features, diffused = captured
    covered = batch.views["occluded"].covered.view(8, 4, -1).float().mean(2)  # [N, S]
    expected_gates = (gates[:8] - 1).square().mean() + (gates[8:] - (1 - covered)).square().mean()
    torch.testing.assert_close(terms["gates"], expected_gates)

    def cross_entropy(classifier: torch.nn.Module, rows: torch.Tensor) -> torch.Tensor:
        scores = classifier(rows)
        return 0.5 * F.cross_entropy(scores[:8], batch.identity) + 0.5 * F.cross_entropy(scores[8:], batch.identity)

    torch.testing.assert_close(terms["identity"], cross_entropy(method.classifier, features))
    torch.testing.assert_close(terms["diffused"], cross_entropy(method.diffused_classifier, diffused))
    centres = method.memory.centres
    one, two = (memory_nce(rows, batch.identity, centres) for rows in features.split(8))
    torch.testing.assert_close(terms["memory"], one + 0.3 * two)
    one, two = (memory_nce(rows, batch.identity, method.diffused_memory.centres) for rows in diffused.split(8))
    torch.testing.assert_close(terms["diffused_memory"], 0.5 * (one + two))


def test_recoloured_people_are_not_classified() -> None:
    method = build(CNN)
    method.begin_epoch(Context())
    nobody = method.losses(random_batch(views=["occluded"], known=[False] * 8))
    assert {name for name, term in nobody.items() if term.item() == 0} == set(nobody) - {"gates"}


def test_attention_is_scaled_by_the_width_of_its_heads_and_normalises_its_query() -> None:
    torch.manual_seed(0)
    attention = CrossAttention(8, 2)
    query, others = torch.randn(1, 8), torch.randn(1, 3, 8)
    weights = attention.weights(query, others)
    torch.testing.assert_close(attention.weights(100 * query, others), weights)
    unit_query, unit_others = (F.normalize(x, dim=-1) * 8**0.5 for x in (query, others))
    q = attention.query(unit_query)[0].view(2, 4)
    k = attention.key_value(unit_others)[0, :, :8].view(3, 2, 4)
    by_hand = torch.stack([(k[:, head] @ q[head] / 4**0.5).softmax(0) for head in range(2)])
    torch.testing.assert_close(weights[0], by_hand)


def test_diffusion_gates_the_mixture_and_adds_the_feature() -> None:
    torch.manual_seed(0)
    diffusion = FeatureDiffusion(6, 2, heads=3)
    features, gates, others = torch.randn(4, 12), torch.rand(4, 2), torch.randn(4, 5, 12)
    mixed = diffusion.first(diffusion.attention(features, others).view(4, 2, 6))
    expected = diffusion.second(mixed * gates[:, :, None] + features.view(4, 2, 6)).flatten(1)
    torch.testing.assert_close(diffusion(features, gates, others), expected)
    shut = diffusion(features, torch.zeros(4, 2), others)
    torch.testing.assert_close(shut, diffusion.second(features.view(4, 2, 6)).flatten(1))  # no residual beside f
    assert diffusion.first.expand.weight.shape == (48, 6)
    assert diffusion.first.reduce.weight.shape == (6, 24)


def test_diffused_features_have_a_batch_norm_of_their_own_unless_asked_otherwise() -> None:
    assert build(CNN).neck is not build(CNN).diffused_neck
    method = build(CNN)
    method.begin_epoch(Context())
    method.train().losses(random_batch(views=["occluded"]))
    assert method.neck.num_batches_tracked == 1  # image and copy in one, as a search mixes them
    shared = build(CNN, shared_bn=True)
    assert shared.neck is shared.diffused_neck


def test_the_parts_are_stripes_seen_as_far_as_their_gates_say() -> None:
    method, images = build(CNN, parts=True).eval(), random_images(3, HEIGHT, WIDTH)
    with torch.inference_mode():
        _, visibility = method(images)
        _, gates, _ = method._describe(images)
        maps = method.attention(images)
    torch.testing.assert_close(visibility[:, 1:], gates)
    assert (visibility[:, 0] == 1).all()
    assert method.schema.names == ("global", "stripe1", "stripe2", "stripe3", "stripe4")
    torch.testing.assert_close(maps.sum(1), torch.ones_like(maps[:, 0]))
    torch.testing.assert_close(maps[:, 1:].amax((2, 3)), gates)


def test_heads_that_do_not_divide_the_width_are_an_error() -> None:
    with pytest.raises(ValueError, match="a width of 384 does not divide among 7 heads"):
        build(CNN, heads=7)


def test_one_identity_is_too_few() -> None:
    with pytest.raises(ValueError, match="at least 2 identities, got 1"):
        tiny.build("fed", people=Population(1, 1))


def test_the_papers_recipe_has_its_grid_feature_and_schedule() -> None:
    recipe = load_recipe("fed", ["backbone.pretrained=false"])
    with torch.device("meta"):  # shapes without numbers
        method = FED.from_recipe(recipe, Population(702, 8)).eval()
        vectors, _ = method(torch.zeros(1, 256, 128, 3, dtype=torch.uint8))
    assert method.backbone.grid == (16, 8)
    assert method.backbone.mean == (0.5, 0.5, 0.5)
    assert vectors.shape == (1, 3072)
    assert method.erasing.gates[0][0].weight.shape == (192, 768)
    assert method.memory.centres.shape == (702, 3072)
    schedule, images = recipe.schedule, 15_618
    steps = schedule.length(images)
    assert steps == pytest.approx(120 * images / 64, abs=1)
    assert rate_factor(schedule, 0, steps) == 0.01
    assert rate_factor(schedule, round(steps * 5 / 120), steps) == pytest.approx(1.0, abs=1e-3)
    assert rate_factor(schedule, steps, steps) == pytest.approx(0.002)


@pytest.mark.parametrize("name", ["fed", "fed-lite"])
def test_recipes_can_be_run(name: str) -> None:
    recipe = load_recipe(name)
    check_recipe(recipe)
    assert recipe.method == "fed"
    assert recipe.augmentation.recolour == 0  # nobody without a centre in the memories
