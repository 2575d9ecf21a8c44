"""Classification of the training identities."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def identity_loss(scores: Tensor, identity: Tensor, *, scale: float = 1.0, smoothing: float = 0.1) -> Tensor:
    """Cross-entropy of ``scale * scores`` ``(N, C)`` against ``(1 - eps) one-hot + eps / C``.

    With cosine scores and a ``scale`` of 10 to 30 this is NormFace (Wang et al., ACM MM 2017). 0 for no rows.
    """
    if len(scores) == 0:
        return scores.sum()
    return F.cross_entropy(scale * scores, identity, label_smoothing=smoothing)
