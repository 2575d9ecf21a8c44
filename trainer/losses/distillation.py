"""What a student learns from a teacher that saw the whole person.

Rows that the teacher says nothing of are NaN and left out.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def embedding_distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean ``1 - cos`` of both, ``(N, D)`` each; the student may have seen an occluded copy of the image."""
    known = torch.isfinite(teacher).all(1)
    if not bool(known.any()):
        return student.sum() * 0.0
    return (1.0 - F.cosine_similarity(student[known], teacher[known], dim=1)).mean()


def relation_distillation(similarity: Tensor, teacher: Tensor, *, temperature: float = 0.1) -> Tensor:
    """Divergence of the student's ranking of the batch from the teacher's (after Park et al., CVPR 2019).

    Each row of the ``(N, N)`` similarities, its own image left out, becomes a distribution by softmax over
    ``temperature``; the loss is the mean Kullback-Leibler divergence, times the squared temperature's inverse left to
    the caller's weight.

    Args:
        similarity: ``(N, N)`` of the student, for example visibility-weighted cosines.
        teacher: ``(N, T)`` embeddings of the teacher, of unit norm.
    """
    known = torch.isfinite(teacher).all(1)
    if int(known.sum()) < 3:
        return similarity.sum() * 0.0
    target = teacher[known] @ teacher[known].T  # [n, n]
    found = similarity[known][:, known]
    self_pair = torch.eye(len(target), dtype=torch.bool, device=target.device)
    wanted = (target / temperature).masked_fill(self_pair, -1e4).softmax(1)
    given = (found / temperature).masked_fill(self_pair, -1e4).log_softmax(1)
    return F.kl_div(given, wanted, reduction="batchmean")
