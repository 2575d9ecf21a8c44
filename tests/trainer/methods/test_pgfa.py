"""PGFA against sums done by hand: pose as tensors, guided pooling, stripes, score, losses, and the distilled pose."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from glimpse.distance import pairwise
from glimpse.parts import PartFeatures
from tests.trainer.batches import random_batch, random_images, random_points
from tests.trainer.methods.tiny import CNN, MAPS, PEOPLE, Fixed, build, columns
from trainer.methods.pgfa import PGFA, PGFAOptions
from trainer.methods.pgfa.network import ClassBlock, guided, pooled_stripes
from trainer.methods.pgfa.pose import heat_maps, openpose18, stripes_seen
from trainer.pose.heatmaps import SIGMA, heatmaps
from trainer.pose.keypoints import KeyPoints
from trainer.pose.visibility import stripe_labels


def joints(*placed: tuple[int, float, float, float], people: int = 1) -> torch.Tensor:
    """Key-points ``(people, 17, 3)``, all missing but those given as index, x, y, confidence."""
    points = torch.zeros(people, 17, 3)
    for index, *values in placed:
        points[0, index] = torch.tensor(values)
    return points


# Pose as tensors


def test_poses_as_tensors_are_those_of_the_pose_room() -> None:
    random = np.random.default_rng(0)
    points = random_points(40, 96, 40, random)
    points[3, 5:7, 2] = torch.tensor([0.9, 0.0])  # one shoulder: no neck
    ours = openpose18(points)
    maps = heat_maps(ours, (96, 40), (12, 5), gamma=0.2, spread=SIGMA)
    for row, person in enumerate(KeyPoints(each, "coco17") for each in points.numpy()):
        kept = person.to_openpose18()
        np.testing.assert_allclose(ours[row], kept.points, atol=1e-6)
        np.testing.assert_allclose(maps[row], heatmaps(person, (96, 40), (12, 5)), atol=1e-5)
        for stripes in (1, 3, 6):
            seen = stripes_seen(ours[row : row + 1], 96, stripes, gamma=0.2)
            assert seen[0].tolist() == stripe_labels(person, 96, stripes).tolist()


def test_a_heat_map_is_a_gaussian_at_the_middles_of_cells() -> None:
    # A cell of 4x4 pixels has its middle at 1.5, 5.5 ...; s is 2 pixels.
    maps = heat_maps(openpose18(joints((0, 5.5, 1.5, 0.9))), (16, 8), (4, 2), gamma=0.2, spread=2 / 16)
    assert maps[0, 0, 0].tolist() == pytest.approx([math.exp(-16 / 8), 1.0])
    assert maps[0, 0, 1].tolist() == pytest.approx([math.exp(-32 / 8), math.exp(-16 / 8)])
    assert maps[0, 1:].abs().max() == 0


def test_a_joint_in_the_corner_is_a_joint() -> None:
    """Public code takes a coordinate of 0 for a joint that was not found."""
    maps = heat_maps(openpose18(joints((0, 0.0, 0.0, 0.9))), (64, 32), (8, 4), gamma=0.2, spread=0.1)
    assert maps[0, 0, 0, 0] > 0.5


def test_a_person_without_joints_gets_maps_of_ones_not_those_of_the_one_before() -> None:
    """Public code keeps the previous image's person when nobody has a joint above gamma."""
    points = joints((0, 8.0, 8.0, 0.9), people=3)
    points[1, 0] = torch.tensor([8.0, 8.0, 0.2])  # not above gamma
    maps = heat_maps(openpose18(points), (64, 32), (8, 4), gamma=0.2, spread=0.1)
    assert maps[0].min() == 0
    assert (maps[1:] == 1).all()
    assert (stripes_seen(openpose18(points), 64, 3, gamma=0.2)[1:] == 1).all()


def test_heat_maps_do_not_depend_on_the_resolution() -> None:
    """Public code's width is H W / 1000 pixels: 6 % of the height at 128x64, 25 % at 512x256."""
    points = random_points(4, 64, 32, np.random.default_rng(1))
    larger = points.clone()
    larger[:, :, :2] = (points[:, :, :2] + 0.5) * 4 - 0.5
    small = heat_maps(openpose18(points), (64, 32), (8, 4), gamma=0.2, spread=0.1)
    torch.testing.assert_close(small, heat_maps(openpose18(larger), (256, 128), (8, 4), gamma=0.2, spread=0.1))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([0.0, 10.0, 29.9], [1, 0, 0]),
        ([30.0, 30.0, 59.0], [0, 1, 0]),  # a border belongs to the stripe below it; public code gives it to neither
        ([30.0, 60.0, 89.0], [0, 1, 1]),
        ([10.0, 80.0], [1, 1, 1]),  # two joints say nothing
    ],
)
def test_a_stripe_is_seen_when_a_joint_lies_in_it(rows: list[float], expected: list[int]) -> None:
    points = joints(*((9 + i, 4.0, y, 0.9) for i, y in enumerate(rows)))
    assert stripes_seen(openpose18(points), 90, 3, gamma=0.2)[0].tolist() == expected


# The network


def test_guided_feature_is_the_mean_then_the_largest_of_the_masked_means() -> None:
    features = torch.tensor([[[[1.0, 3.0]], [[-4.0, 0.0]]]])  # one image, two channels, two cells
    maps = torch.tensor([[[[1.0, 0.0]], [[0.5, 0.5]]]])  # two joints
    # Means over both cells: (2, -2). Masked by the first joint (0.5, -2), by the second (1, -1): not over the mass.
    assert guided(features, maps).tolist() == [[2.0, -2.0, 1.0, -1.0]]


def test_stripes_are_what_adaptive_pooling_gives_at_any_height() -> None:
    features = torch.randn(2, 3, 7, 4)
    for count in (1, 2, 3, 6, 7):
        expected = F.adaptive_avg_pool2d(features, (count, 1)).flatten(2).transpose(1, 2)
        torch.testing.assert_close(pooled_stripes(features, count), expected)


def pgfa(maps: Any, **options: Any) -> PGFA:
    torch.manual_seed(0)
    return PGFA(Fixed(maps), PGFAOptions(**{"dropout": 0.0, **options}), PEOPLE)  # type: ignore[arg-type]


def test_a_raw_stripe_is_the_pooled_map_and_a_reduced_one_the_heads_256_numbers() -> None:
    maps = [[[[3.0], [0.0], [0.0]], [[4.0], [2.0], [-1.0]]]]  # one image, two channels, three rows
    raw = pgfa(maps, stripes=3).eval()
    with torch.inference_mode():
        vectors, _ = raw(random_images(1))
    assert vectors[0, columns(raw, "stripe1")].tolist() == pytest.approx([0.6, 0.8])
    assert vectors[0, columns(raw, "stripe3")].tolist() == pytest.approx([0.0, -1.0])
    reduced = pgfa(maps, stripes=3, part_feat="reduced256").eval()
    assert reduced.schema.dims == (256, 256, 256, 256)
    with torch.inference_mode():
        vectors, _ = reduced(random_images(1))
        expected = F.normalize(reduced.parts[2](torch.tensor([[0.0, -1.0]])), dim=1)
    torch.testing.assert_close(vectors[:, columns(reduced, "stripe3")], expected)


def test_without_points_everything_counts_as_seen_and_with_points_what_they_say() -> None:
    method = build("pgfa", MAPS, size=(96, 48)).eval()
    images, points = random_images(2, 96, 48), torch.zeros(2, 17, 3)
    points[0, :5] = torch.tensor([20.0, 10.0, 0.9])  # a face only; of the second person nothing
    with torch.inference_mode():
        blind, all_seen = method(images)
        guided_by, seen = method(images, points)
    assert all_seen.tolist() == [[1.0] * 4] * 2
    assert seen.tolist() == [[1.0, 1.0, 0.0, 0.0], [1.0] * 4]
    whole = columns(method, "global")
    assert (blind[0, whole] @ guided_by[0, whole]).item() < 0.999
    torch.testing.assert_close(blind[1], guided_by[1])  # no pose: maps of ones
    torch.testing.assert_close(blind[:, whole.stop :], guided_by[:, whole.stop :])  # a pose moves no stripe
    PartFeatures(guided_by.numpy(), seen.numpy(), method.schema)


def test_score_is_the_papers() -> None:
    """S = (sum l l s + s_global) / (sum l l + 1) with s = (cos + 1) / 2 is 1 - d / 2."""
    method = pgfa(torch.zeros(1, 2, 3, 1), stripes=3)
    unit = np.eye(256, dtype=np.float32)

    def features(stripes: list[tuple[float, float]], seen: list[float], whole: Any) -> PartFeatures:
        vectors = np.concatenate([whole, np.ravel(stripes)]).astype(np.float32)[None]
        return PartFeatures(vectors, np.array([[1, *seen]], np.float32), method.schema)

    query = features([(1, 0), (1, 0), (0, 1)], [1, 1, 0], unit[0])
    gallery = features([(0.6, 0.8), (-1, 0), (0, 1)], [1, 1, 1], 0.28 * unit[0] + 0.96 * unit[1])
    # Stripes 1 and 2 are shared: cosines 0.6 and -1; global 0.28.
    score = ((0.6 + 1) / 2 + (-1 + 1) / 2 + (0.28 + 1) / 2) / (2 + 1)
    assert 1 - pairwise(query, gallery).distance.item() / 2 == pytest.approx(score, abs=1e-6)
    nothing = features([(1, 0), (1, 0), (0, 1)], [0, 0, 0], unit[0])
    assert 1 - pairwise(nothing, gallery).distance.item() / 2 == pytest.approx((0.28 + 1) / 2, abs=1e-6)


def test_loss_is_lambda_of_the_stripes_sum_and_the_rest_of_the_global() -> None:
    batch = random_batch()
    for share in (0.0, 0.2, 1.0):
        terms = build("pgfa", CNN, stripes_share=share, dropout=0.0).losses(batch)
        alone = build("pgfa", CNN, stripes_share=0.5, dropout=0.0).losses(batch)
        assert terms["stripes"].item() == pytest.approx(share * 2 * alone["stripes"].item(), rel=1e-5)
        assert terms["global"].item() == pytest.approx((1 - share) * 2 * alone["global"].item(), rel=1e-5)


def test_stripes_are_summed_and_labels_are_not_smoothed() -> None:
    method = pgfa(torch.randn(4, 2, 3, 1), stripes=3, stripes_share=0.2)
    for head in (*method.parts, method.whole):
        torch.nn.init.zeros_(head.classify.weight)
        head.classify.bias.data.copy_(torch.tensor([math.log(5), 0.0, 0.0, 0.0]))
    batch = random_batch(4, identities=4)  # identities 0 to 3: probabilities 5/8 and thrice 1/8
    one = (math.log(8 / 5) + 3 * math.log(8)) / 4
    terms = method.losses(batch)
    assert terms["stripes"].item() == pytest.approx(0.2 * 3 * one, rel=1e-5)
    assert terms["global"].item() == pytest.approx(0.8 * one, rel=1e-5)


def test_training_never_drops_a_hidden_stripe() -> None:
    batch = random_batch()
    method = build("pgfa", CNN, dropout=0.0)
    seen = method.losses(batch)["stripes"]
    batch.base.points[:, 11:, 2] = 0  # no legs
    torch.testing.assert_close(method.losses(batch)["stripes"], seen)


def test_a_head_is_dropout_linear_norm_dropout_classifier() -> None:
    head = ClassBlock(8, 5, 0.5)
    assert head.reduce.weight.shape == (256, 8)
    assert head.classify.weight.shape == (5, 256)
    assert head.classify.weight.std().item() == pytest.approx(0.001, rel=0.2)
    assert head.norm.weight.std().item() == pytest.approx(0.02, rel=0.3)
    assert (head.reduce.bias == 0).all()
    pooled = torch.randn(6, 8)
    assert not torch.equal(head(pooled), head(pooled))
    head.eval()
    torch.testing.assert_close(head.scores(pooled), head.classify(head.norm(head.reduce(pooled))))


# The distilled pose


def distilled() -> PGFA:
    method = build("pgfa", MAPS, pose="distilled")
    assert isinstance(method, PGFA)
    return method


def test_pose_is_learnt_from_people_that_have_one_and_from_no_other() -> None:
    method, batch = distilled(), random_batch()
    batch.base.points[4:, :, 2] = 0
    before = method.losses(batch)
    batch.base.points[4:, :, :2] = 7.0  # where nobody was seen means nothing
    after = method.losses(batch)
    for name in ("heat_maps", "seen"):
        assert before[name].item() == pytest.approx(after[name].item())
        assert before[name] > 0
    batch.base.points[:, :, 2] = 0
    unknown = method.losses(batch)
    assert unknown["heat_maps"].item() == unknown["seen"].item() == 0


def test_two_joints_teach_heat_maps_but_no_stripes() -> None:
    method, batch = distilled(), random_batch()
    batch.base.points[:, 2:, 2] = 0
    batch.base.points[:, :2, 2] = 0.9
    terms = method.losses(batch)
    assert terms["heat_maps"] > 0
    assert terms["seen"].item() == 0


def test_losses_of_the_distilled_pose_are_cross_entropies_against_maps_and_stripes() -> None:
    method, batch = distilled(), random_batch()
    for weight in (method.joints.weight, method.joints.bias, method.seen[3].weight, method.seen[3].bias):
        torch.nn.init.zeros_(weight)
    terms = method.losses(batch)
    # Every guess is 1/2, and -t log 1/2 - (1 - t) log 1/2 is log 2 whatever the truth.
    assert terms["heat_maps"].item() == pytest.approx(math.log(2), rel=1e-5)
    assert terms["seen"].item() == pytest.approx(math.log(2), rel=1e-5)


def test_identity_does_not_bend_the_heat_maps() -> None:
    method, batch = distilled(), random_batch()
    terms = method.losses(batch)
    (terms["stripes"] + terms["global"] + terms["seen"]).backward()
    assert method.joints.weight.grad is None
    assert next(method.backbone.parameters()).grad is not None


def test_what_was_learnt_guides_and_hides_without_any_pose() -> None:
    """Eight images by heart: whose heat-maps and stripes are then those of their key-points."""
    torch.manual_seed(0)
    method, batch = distilled(), random_batch()
    batch.base.points[::2, 11:, 2] = 0  # every other person shows no hip, knee or ankle
    truth = stripes_seen(openpose18(batch.base.points), 64, 3, gamma=0.2)
    assert 0 < truth.mean() < 1
    optimiser = torch.optim.Adam(method.parameters(), 3e-3)
    for _ in range(50):
        terms = method.losses(batch)
        optimiser.zero_grad()
        (terms["heat_maps"] + terms["seen"]).backward()
        optimiser.step()
    with torch.inference_mode():
        _, visibility = method(batch.images)  # as it was trained: statistics of the batch
    assert (visibility[:, 0] == 1).all()
    assert ((visibility[:, 1:] > 0.5) == truth.bool()).float().mean() > 0.9


def test_attention_is_the_stripe_as_far_as_joints_are_found() -> None:
    method = build("pgfa", MAPS, pose="distilled").eval()
    with torch.inference_mode():
        attention = method.attention(random_images(2))
    assert attention.shape == (2, 4, 8, 4)
    assert (attention[:, 1, 3:] == 0).all()
    assert (attention[:, 1, :3] > 0).all()
    assert (attention[:, 3, :5] == 0).all()
    given = build("pgfa", MAPS).eval()
    with torch.inference_mode():
        assert given.attention(random_images(1))[0, 1:].amax(0).min() == 1
