"""ISP against sums done by hand: branches, losses, visibility and score; and how its labels are made in training."""

from __future__ import annotations

import gc
import math
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from glimpse.distance import pairwise
from glimpse.parts import PartFeatures
from tests.trainer.batches import random_batch, random_images
from tests.trainer.methods.tiny import CNN, MAPS, PEOPLE, Fixed, build, columns
from trainer.methods.isp import ISP, ISPOptions, network
from trainer.methods.isp.network import SpatialAttention, seen_by_cells, seen_by_mass


def plain(maps: Any, **options: Any) -> ISP:
    """ISP on given maps, which are their own reduction: no attention, an identity for the 1x1 convolution."""
    torch.manual_seed(0)
    trunk = Fixed(maps)
    chosen = {"width": trunk.channels, "attention": False, "classes": 3, **options}
    method = ISP(trunk, ISPOptions.model_construct(**{**ISPOptions().model_dump(), **chosen}), PEOPLE)  # type: ignore[arg-type]
    method.reduce = torch.nn.Identity()
    torch.nn.init.zeros_(method.classify.weight)
    torch.nn.init.zeros_(method.classify.bias)
    return method


# The network


def test_parts_are_means_over_all_cells_and_the_foreground_is_their_sum() -> None:
    # Two channels, two cells: (4, 2) and (0, 8). The first is classified 1/2, 1/4, 1/4, the second 1/3 each.
    method = plain([[[[4.0, 0.0]], [[2.0, 8.0]]]])
    logits = torch.tensor([[[[math.log(2), 0.0]], [[0.0, 0.0]], [[0.0, 0.0]]]])
    method.classify = torch.nn.Sequential()
    method.classify.forward = lambda features: logits  # type: ignore[method-assign]
    pooled, _ = method._describe(random_images(1))
    part = [(4 / 4 + 0 / 3) / 2, (2 / 4 + 8 / 3) / 2]
    assert pooled["part"][0].tolist() == pytest.approx(part * 2)
    assert pooled["fore"][0].tolist() == pytest.approx([2 * p for p in part])
    assert pooled["whole"][0].tolist() == [2.0, 5.0]


def test_schema_is_global_and_foreground_as_one_and_a_part_of_each_class_but_the_background() -> None:
    method = build("isp", CNN)
    assert method.schema.names == ("global", "part1", "part2", "part3", "part4", "part5")
    assert method.schema.dims == (512, *[256] * 5)
    assert build("isp", CNN, classes=7).schema.names[-1] == "part6"
    assert build("isp", CNN, width=16, big_global=True).schema.dims[0] == 96 + 16
    one = build("isp", CNN, aligned=False)
    assert one.schema.dims == (5 * 256 + 512,)


def test_vectors_are_slices_of_the_batch_normed_features() -> None:
    method = build("isp", MAPS, width=8).eval()
    images = random_images(2)
    with torch.inference_mode():
        vectors, _ = method(images)
        pooled, _ = method._describe(images)
        parts = method.necks["part"](pooled["part"])
        whole = torch.cat([method.necks["whole"](pooled["whole"]), method.necks["fore"](pooled["fore"])], dim=1)
    torch.testing.assert_close(vectors[:, columns(method, "part2")], F.normalize(parts[:, 8:16], dim=1))
    torch.testing.assert_close(vectors[:, columns(method, "global")], F.normalize(whole, dim=1))


def test_spatial_attention_keeps_the_maps_size_and_lies_between_0_and_1() -> None:
    attention = SpatialAttention(5)(torch.randn(2, 5, 7, 3))
    assert attention.shape == (2, 1, 7, 3)
    assert 0 < attention.min() < attention.max() < 1


def test_several_maps_become_one_at_the_finest_with_aligned_corners() -> None:
    trunk = build("isp", MAPS).backbone
    maps = trunk.network(trunk.network.pixels(random_images(2)))
    joined = trunk(random_images(2))
    assert joined.shape == (2, sum(trunk.network.channels), 8, 4)
    last = joined[:, -maps[2].shape[1] :]
    torch.testing.assert_close(last[:, :, [0, -1]][..., [0, -1]], maps[2][:, :, [0, -1]][..., [0, -1]])


# Visibility and score


def test_a_part_is_seen_when_enough_cells_are_its() -> None:
    labels = torch.tensor([[[0, 1, 1], [2, 2, 2]], [[0, 0, 0], [0, 0, 3]]])
    logits = F.one_hot(labels, 4).permute(0, 3, 1, 2).float()
    assert seen_by_cells(logits, 1).tolist() == [[1, 1, 0], [0, 0, 1]]
    assert seen_by_cells(logits, 3).tolist() == [[0, 1, 0], [0, 0, 0]]


def test_mass_lets_a_stray_cell_count_for_little() -> None:
    """Public code: one cell of 2048 and the part is seen in full."""
    logits = torch.zeros(1, 2, 8, 8) + torch.tensor([9.0, -9.0]).view(1, 2, 1, 1)
    logits[0, :, 0, 0] = torch.tensor([-9.0, 9.0])
    assert seen_by_cells(logits, 1).item() == 1
    assert seen_by_cells(logits, 2).item() == 0
    assert seen_by_mass(logits, 0.25).item() == pytest.approx(1 / 64 / 0.25, rel=1e-3)
    assert seen_by_mass(logits, 0.01).item() == 1
    # Softmax 1/4 and 3/4 in every cell, in full from 1/2 on.
    even = torch.zeros(1, 3, 2, 2) + torch.tensor([math.log(6), 0.0, math.log(17)]).view(1, 3, 1, 1)
    assert seen_by_mass(even, 0.5)[0].tolist() == pytest.approx([1 / 24 / 0.5, 1.0])


def test_score_is_the_papers() -> None:
    """S = (sum v v s + s_global) / (sum v v + 1) with s = (1 + cos) / 2 is 1 - d / 2."""
    method = plain(torch.zeros(1, 2, 1, 1))
    assert method.schema.dims == (4, 2, 2)

    def features(whole: list[float], parts: list[float], seen: list[float]) -> PartFeatures:
        vectors = np.array([[*whole, *parts]], np.float32)
        return PartFeatures(vectors, np.array([[1, *seen]], np.float32), method.schema)

    query = features([1, 0, 0, 0], [1, 0, 0, 1], [1, 1])
    gallery = features([0.6, 0, 0.8, 0], [0.8, 0.6, 0, -1], [1, 0])
    score = ((1 + 0.8) / 2 + (1 + 0.6) / 2) / (1 + 1)
    assert 1 - pairwise(query, gallery).distance.item() / 2 == pytest.approx(score, abs=1e-6)
    both = features([0.6, 0, 0.8, 0], [0.8, 0.6, 0, -1], [1, 1])
    score = ((1 + 0.8) / 2 + (1 - 1) / 2 + (1 + 0.6) / 2) / (2 + 1)
    assert 1 - pairwise(query, both).distance.item() / 2 == pytest.approx(score, abs=1e-6)


# Losses


def test_each_branch_has_its_own_triplet_on_what_goes_into_its_neck() -> None:
    # One cell each: features (0, 0), (3, 4), (6, 8), (6, 0); nothing is classified, so a part is a third of it.
    method = plain(torch.tensor([[0.0, 0.0], [3, 4], [6, 8], [6, 0]])[:, :, None, None])
    terms = method.losses(random_batch(4, identities=2))

    def triplet(scale: float) -> float:
        # 01: 5, 02: 10, 03: 6, 12: 5, 13: 5, 23: 8
        gaps = [5 - 6, 5 - 5, 8 - 5, 8 - 5]
        return sum(max(0.0, scale * gap + 0.3) for gap in gaps) / 4

    assert terms["triplet_whole"].item() == pytest.approx(triplet(1), abs=1e-4)
    assert terms["triplet_fore"].item() == pytest.approx(triplet(2 / 3), abs=1e-4)
    assert terms["triplet_part"].item() == pytest.approx(triplet(math.sqrt(2) / 3), abs=1e-4)
    joint = plain(method.backbone.maps.data, joint_triplet=True).losses(random_batch(4, identities=2))
    assert joint["triplet"].item() == pytest.approx(triplet(math.sqrt(1 + 4 / 9 + 2 / 9)), abs=1e-4)
    assert {name for name in joint if name.startswith("triplet")} == {"triplet"}


def test_pixel_loss_is_a_tenth_of_the_cross_entropy_over_labelled_cells() -> None:
    method = plain(torch.randn(4, 2, 8, 4))
    batch = random_batch(4, pseudo=2, identities=2)
    assert method.losses(batch)["pixel"].item() == pytest.approx(0.1 * math.log(3), rel=1e-5)
    batch.base.pseudo.fill_(255)
    assert method.losses(batch)["pixel"].item() == 0


def test_identity_losses_are_smoothed_and_heads_have_no_bias() -> None:
    method = plain(torch.randn(4, 2, 1, 1))
    for classifier in method.classifiers.values():
        torch.nn.init.zeros_(classifier.weight)
        assert classifier.bias is None
    terms = method.losses(random_batch(4, identities=2))
    assert [terms[f"identity_{name}"].item() for name in network.BRANCHES] == pytest.approx([math.log(4)] * 3)
    assert not any(neck.bias.requires_grad for neck in method.necks.values())


def test_centre_losses_are_of_all_three_branches_and_off_unless_asked_for() -> None:
    maps = torch.tensor([[3.0, 0.0], [3, 0], [6, 0], [6, 0]])[:, :, None, None]
    batch = random_batch(4, identities=2)
    assert "centre" not in plain(maps).losses(batch)
    method = plain(maps, centre_weight=0.01)
    for centres in method.centres.values():
        centres.points.zero_()
    expected = sum(scale * (9 + 9 + 36 + 36) / 4 for scale in (1, 4 / 9, 2 / 9))
    assert method.losses(batch)["centre"].item() == pytest.approx(0.01 * expected, rel=1e-5)
    method.after_step(batch)
    torch.testing.assert_close(method.centres["whole"].points[:2], torch.tensor([[1.5, 0.0], [3.0, 0.0]]))


# Pseudo labels in training


class Context:
    """Images of several people in mixed order, as `begin_epoch` sees them; remembers what it was asked for."""

    def __init__(self, epoch: int = 0, identities: tuple[int, ...] = (2, 0, 1, 0, 2, 2, 0)) -> None:
        self.epoch = epoch
        self.identities = np.array(identities)
        self.asked: list[list[int]] = []
        self.labels: dict[int, np.ndarray] = {}

    def images(self, rows: Any) -> np.ndarray:
        self.asked.append(np.asarray(rows).tolist())
        return np.stack([random_images(1, seed=int(row))[0].numpy() for row in rows])

    def set_pseudo_labels(self, rows: Any, labels: np.ndarray) -> None:
        assert labels.dtype == np.uint8
        assert len(rows) == len(labels)
        self.labels.update(zip(np.asarray(rows).tolist(), labels, strict=True))


def test_every_image_is_labelled_at_the_maps_size_one_identity_at_a_time() -> None:
    method, context = build("isp", MAPS, width=8, classes=4, cluster_batch=2), Context()
    method.begin_epoch(context)
    assert sorted(context.labels) == list(range(7))
    assert {labels.shape for labels in context.labels.values()} == {(8, 4)}
    assert all(labels.max() <= 3 for labels in context.labels.values())
    assert context.asked == [[1, 3], [6], [2], [0, 4], [5]]
    assert method.training


def test_only_one_identitys_features_are_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Public code holds the whole training set's: 33 GB for Occluded-DukeMTMC."""
    alive: list[weakref.ref[torch.Tensor]] = []
    sizes: list[int] = []
    original = network.label_identity

    def watched(features: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        gc.collect()
        assert all(earlier() is None for earlier in alive)
        alive.append(weakref.ref(features))
        sizes.append(len(features))
        return original(features, *arguments, **options)

    monkeypatch.setattr(network, "label_identity", watched)
    build("isp", MAPS, width=8).begin_epoch(Context())
    assert sizes == [3, 1, 3]


@pytest.mark.parametrize(
    ("epoch", "expected"), [(0, True), (1, False), (2, True), (100, True), (101, False), (102, False)]
)
def test_labels_are_made_in_epochs_1_3_5_to_101(epoch: int, expected: bool) -> None:
    context = Context(epoch)  # counted from 0
    build("isp", MAPS, width=8).begin_epoch(context)
    assert bool(context.labels) == expected


def test_clustering_is_repeatable_and_leaves_no_trace_in_the_network() -> None:
    method = build("isp", MAPS, width=8)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    first, second = Context(), Context()
    method.begin_epoch(first)
    method.begin_epoch(second)
    assert all(np.array_equal(first.labels[row], second.labels[row]) for row in range(7))
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    assert all(parameter.grad is None for parameter in method.parameters())


def test_where_clustering_is_impossible_stripes_without_background_stand_in() -> None:
    method, context = build("isp", MAPS, width=8, classes=6), Context()
    torch.nn.init.zeros_(method.reduce[1].weight)  # an activation of 0 everywhere: nobody to be seen
    torch.nn.init.zeros_(method.reduce[1].bias)
    method.begin_epoch(context)
    for labels in context.labels.values():
        assert labels[:, 0].tolist() == [1, 1, 2, 2, 3, 4, 4, 5]
        assert (labels == labels[:, :1]).all()


def test_labels_come_back_from_a_training_set_as_they_were_made() -> None:
    method = build("isp", MAPS, width=8)
    context = Context()
    method.begin_epoch(context)
    batch = random_batch(7)
    rows = torch.from_numpy(np.stack([context.labels[row] for row in range(7)]))  # [7, 8, 4]
    batch.base.pseudo[:] = rows.repeat_interleave(8, 1).repeat_interleave(8, 2)
    logits = method._describe(batch.images)[1]
    expected = F.cross_entropy(logits, rows.long())
    pixel = method.losses(batch)["pixel"].item()
    assert pixel == pytest.approx(0.1 * expected.item(), rel=1e-4)


def test_the_classifier_learns_the_labels_it_is_given() -> None:
    torch.manual_seed(0)
    method, batch = build("isp", MAPS, width=16, classes=4), random_batch(pseudo=3)
    optimiser = torch.optim.Adam(method.parameters(), 3e-3)
    for _ in range(40):
        loss = method.losses(batch)["pixel"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    truth = batch.base.pseudo[:, 4::8, 4::8].long()
    found = method.attention(batch.images).argmax(1)
    assert (found == truth).float().mean() > 0.9
