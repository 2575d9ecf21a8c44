"""Key-points to what PGFA reads off them, as tensors: 18 heat-maps and the stripes that show somebody.

The same numbers as `trainer.pose.heatmaps` (resolution-free) and `trainer.pose.visibility` have in NumPy (a test holds
them together), for batches on a device and inside an exported graph. A key-point counts when its confidence is above
gamma, wherever it lies: public code takes x = 0 or y = 0 for "missing". A person without a single key-point that
counts has no pose, never that of the image before.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.pose.keypoints import COCO17, OPENPOSE18
from trainer.pose.visibility import LEAST_JOINTS

JOINTS = len(OPENPOSE18)
_NECK = OPENPOSE18.index("neck")
_PLACES = [COCO17.index(name) for name in OPENPOSE18 if name != "neck"]
_SHOULDERS = [COCO17.index("left shoulder"), COCO17.index("right shoulder")]


def openpose18(points: Tensor) -> Tensor:
    """COCO key-points ``(N, 17, 3)`` in OpenPose's order ``(N, 18, 3)``.

    The neck is the mean of the shoulders, confidence included; it is missing when a shoulder is.
    """
    shoulders = points[:, _SHOULDERS]  # [N, 2, 3]
    both = (shoulders[:, :, 2] > 0).all(1)
    neck = torch.where(both[:, None], shoulders.mean(1), 0.0)[:, None]  # [N, 1, 3]
    others = points[:, _PLACES]  # [N, 17, 3]
    return torch.cat([others[:, :_NECK], neck, others[:, _NECK:]], dim=1)


def heat_maps(joints: Tensor, size: tuple[int, int], cells: tuple[int, int], *, gamma: float, spread: float) -> Tensor:
    """A Gaussian around each joint that counts, ``exp(-r^2 / 2 s^2)`` at the middle of every cell.

    Args:
        joints: ``(N, J, 3)``: x, y in pixels of an image of ``size``, confidence.
        size: height and width of the image. cells: of the map.
        gamma: a joint counts when its confidence is above this.
        spread: s as a share of the image's height. (The paper's code takes H W / 1000 pixels, which grows with
            resolution.)

    Returns:
        ``(N, J, h, w)`` in [0, 1]; zeros for a joint that does not count, ones throughout for a person without any.
    """
    kept = joints[:, :, 2] > gamma  # [N, J]
    x = torch.where(kept, joints[:, :, 0], 0.0)
    y = torch.where(kept, joints[:, :, 1], 0.0)
    sigma = spread * size[0]
    across = _bell(x, size[1], cells[1], sigma)  # [N, J, w]
    down = _bell(y, size[0], cells[0], sigma)  # [N, J, h]
    maps = down[:, :, :, None] * across[:, :, None, :] * kept[:, :, None, None]
    nobody = ~kept.any(1)
    return torch.where(nobody[:, None, None, None], 1.0, maps)


def stripes_seen(joints: Tensor, height: int, stripes: int, *, gamma: float) -> Tensor:
    """Which of so many equal stripes hold a joint that counts: float 0 or 1, ``(N, p)``, top first.

    Stripe k holds y when ``k H / p <= y < (k + 1) H / p``: closed above, open below, as in the paper (its code is open
    at both ends and so loses joints on a border). All 1 for a person of fewer than `LEAST_JOINTS` joints.
    """
    kept = joints[:, :, 2] > gamma  # [N, J]
    border = torch.arange(stripes + 1, device=joints.device) * (height / stripes)
    y = joints[:, :, 1, None]  # [N, J, 1]
    inside = (border[:-1] <= y) & (y < border[1:])  # [N, J, p]
    seen = (inside & kept[:, :, None]).any(1)  # [N, p]
    unclear = kept.sum(1, keepdim=True) < LEAST_JOINTS
    return (seen | unclear).to(joints.dtype)


def _bell(position: Tensor, pixels: int, cells: int, sigma: float) -> Tensor:
    """``exp(-(u - position)^2 / 2 sigma^2)`` at the middles u of cells; ``(N, J)`` to ``(N, J, cells)``."""
    middle = (torch.arange(cells, device=position.device) + 0.5) * (pixels / cells) - 0.5
    return torch.exp(-(middle - position[:, :, None]).square() / (2 * sigma**2))
