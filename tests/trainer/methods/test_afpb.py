"""AFPB against sums done by hand: who counts as occluded, which twins count, and what each head costs."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tests.trainer.batches import random_batch, random_view
from tests.trainer.methods.tiny import CNN, PEOPLE, Fixed, build
from trainer.data.batch import Batch, View
from trainer.methods.afpb import AFPB, AFPBOptions, occluded
from trainer.recipe import load_recipe


def view(covered: list[bool], visibility: list[float], certain: list[bool]) -> View:
    """As many versions; of a covered one a single pixel is hidden."""
    base = random_view(len(covered), covered=False)
    base.covered[:, 10, 10] = torch.tensor(covered)
    base.visibility[:, 0] = torch.tensor(visibility)
    base.certain[:, 0] = torch.tensor(certain)
    return base


def test_a_covered_pixel_or_a_person_known_to_be_partly_hidden_makes_it_occluded() -> None:
    labels = occluded(
        view(
            [False, True, False, False, False],
            [1.00, 1.00, 0.50, 0.50, 0.90],
            [True, True, True, False, True],
        ),
        whole=0.85,
    )
    # whole; covered, if only beside the person; taken half hidden; nobody knows how much is hidden; nearly whole
    assert labels.tolist() == [False, True, True, False, False]


class Pixels(torch.nn.Module):
    """A trunk whose map is one number an image: its first pixel."""

    channels = 1

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen = images
        return images[:, :1, :1, :1].float()


def pictures(batch: Batch, base: list[int], twin: list[int]) -> None:
    batch.base.images[:, 0, 0, 0] = torch.tensor(base, dtype=torch.uint8)
    batch.views["occluded"].images[:, 0, 0, 0] = torch.tensor(twin, dtype=torch.uint8)


def test_losses_are_of_the_images_and_of_the_twins_that_were_really_covered() -> None:
    method = AFPB(Pixels(), AFPBOptions(alpha=0.5), PEOPLE)  # type: ignore[arg-type]
    with torch.no_grad():
        method.identify.weight.copy_(torch.tensor([[1.0], [0.0], [0.0], [0.0]]))
        method.judge.weight.copy_(torch.tensor([[0.0], [1.0]]))
        method.identify.bias.zero_()
        method.judge.bias.zero_()
    batch = random_batch(2, identities=2, views=["occluded"])  # of two, the second twin is covered
    pictures(batch, base=[1, 2], twin=[9, 3])
    terms = method.losses(batch)
    assert method.backbone.seen[:, 0, 0, 0].tolist() == [1, 2, 3]  # type: ignore[union-attr]

    def identity(feature: float, own: int) -> float:
        return math.log(math.exp(feature) + 3) - (feature if own == 0 else 0.0)

    def judged(feature: float, hidden: bool) -> float:
        return math.log(1 + math.exp(feature)) - (feature if hidden else 0.0)

    assert terms["identity"].item() == pytest.approx((identity(1, 0) + identity(2, 1) + identity(3, 1)) / 3)
    assert terms["occluded"].item() == pytest.approx(
        0.5 * (judged(1, False) + judged(2, False) + judged(3, True)) / 3, rel=1e-5
    )


def test_a_batch_of_which_no_twin_was_covered_is_the_images_alone() -> None:
    """As the probability grows from nothing, that is how training begins."""
    method = AFPB(Pixels(), AFPBOptions(), PEOPLE)  # type: ignore[arg-type]
    batch = random_batch(4, views=["occluded"])
    batch.views["occluded"].covered.zero_()
    assert all(torch.isfinite(term) for term in method.losses(batch).values())
    assert len(method.backbone.seen) == 4  # type: ignore[arg-type]


def test_alpha_is_the_weight_of_the_occlusion_head_alone() -> None:
    batch = random_batch(views=["occluded"])
    none, one, two = (
        {name: term.item() for name, term in build("afpb", CNN, alpha=alpha).losses(batch).items()}
        for alpha in (0.0, 1.0, 2.0)
    )
    assert none["occluded"] == 0
    assert two["occluded"] == pytest.approx(2 * one["occluded"])
    assert none["identity"] == one["identity"] == two["identity"]


def test_search_takes_the_shared_feature_before_both_heads() -> None:
    method = AFPB(Fixed([[[[3.0, 3.0]], [[2.0, 6.0]]]]), AFPBOptions(), PEOPLE).eval()  # type: ignore[arg-type]
    with torch.inference_mode():
        vectors, visibility = method(torch.zeros(1, 64, 32, 3, dtype=torch.uint8))
    torch.testing.assert_close(vectors, torch.tensor([[0.6, 0.8]]))
    assert visibility.tolist() == [[1.0]]


@pytest.mark.parametrize("name", ["afpb", "afpb-lite"])
def test_its_occluder_is_background_with_growing_probability(name: str) -> None:
    (step,) = load_recipe(name).occlusion.views["occluded"]
    assert step.simulator == "background"
    assert step.options["growing"] is True


def test_real_occlusion_in_the_training_images_is_labelled_so() -> None:
    """Half-split training of the paper: images of people behind things, as they were taken."""
    batch = random_batch(2, identities=2, views=["occluded"])
    base = replace(batch.base, visibility=batch.base.visibility * 0.4)
    assert occluded(batch.base, 0.85).tolist() == [False, False]
    assert occluded(base, 0.85).tolist() == [True, True]
