"""Agreement with a teacher, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from trainer.losses import embedding_distillation, part_map_loss, relation_distillation, visibility_loss


def test_embedding_distillation_is_one_minus_cosine_over_known_rows() -> None:
    student = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    teacher = torch.tensor([[1.0, 0.0], [3.0, 0.0], [torch.nan, 0.0]])
    assert float(embedding_distillation(student, teacher)) == pytest.approx((0 + 1) / 2)


def test_relation_distillation_is_the_divergence_of_two_softmax_rows() -> None:
    # Three images on a line: the teacher's cosines of 0 to the others are cos 60 and cos 90.
    half, full = math.pi / 3, math.pi / 2
    teacher = torch.tensor([[1.0, 0.0], [math.cos(half), math.sin(half)], [math.cos(full), math.sin(full)]])
    same = teacher @ teacher.T
    assert float(relation_distillation(same, teacher, temperature=1.0)) == pytest.approx(0, abs=1e-6)
    flat = torch.zeros(3, 3)

    def row(a: float, b: float) -> float:
        p = math.exp(a) / (math.exp(a) + math.exp(b))
        return p * math.log(p / 0.5) + (1 - p) * math.log((1 - p) / 0.5)

    c60, c90, c30 = math.cos(half), 0.0, math.cos(math.pi / 6)
    wanted = (row(c60, c90) + row(c60, c30) + row(c90, c30)) / 3
    assert float(relation_distillation(flat, teacher, temperature=1.0)) == pytest.approx(wanted, abs=1e-6)


def test_cells_of_unknown_region_do_not_count() -> None:
    logits = torch.zeros(1, 3, 1, 2)
    logits[0, 1, 0, 0] = 5.0
    regions = torch.tensor([[[1, 255]]], dtype=torch.uint8)
    wanted = -math.log(math.exp(5) / (math.exp(5) + 2))
    assert float(part_map_loss(logits, regions)) == pytest.approx(wanted, abs=1e-6)
    assert float(part_map_loss(logits, torch.full((1, 1, 2), 255, dtype=torch.uint8))) == 0


def test_uncertain_visibilities_do_not_count() -> None:
    logits, visibility = torch.tensor([[0.0, 9.0]]), torch.tensor([[1.0, 0.0]])
    assert float(visibility_loss(logits, visibility, torch.tensor([[True, False]]))) == pytest.approx(math.log(2))
    assert float(visibility_loss(logits, visibility, torch.zeros(1, 2, dtype=torch.bool))) == 0
