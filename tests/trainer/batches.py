"""Random batches for the tests of methods: pictures of noise with labels that fit together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from glimpse.people import PARTS
from trainer.data.annotated import UNKNOWN
from trainer.data.batch import Batch, View

REGIONS = len(PARTS) - 1


def random_images(count: int, height: int = 64, width: int = 32, seed: int = 0) -> torch.Tensor:
    """uint8 ``(N, H, W, 3)``."""
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def random_points(count: int, height: int, width: int, random: np.random.Generator) -> torch.Tensor:
    """COCO key-points ``(N, 17, 3)`` of somebody upright, head at the top; about one in five cannot be seen."""
    # Rows of nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles, as shares of the height.
    rows = np.repeat([0.08, 0.06, 0.07, 0.2, 0.35, 0.48, 0.52, 0.72, 0.93], [1, *[2] * 8])
    points = np.empty((count, 17, 3), np.float32)
    points[:, :, 0] = random.uniform(0.2, 0.8, (count, 17)) * (width - 1)
    points[:, :, 1] = (rows + random.uniform(-0.03, 0.03, (count, 17))) * (height - 1)
    points[:, :, 2] = random.uniform(0.5, 1.0, (count, 17)) * (random.random((count, 17)) > 0.2)
    return torch.from_numpy(points)


def random_view(
    count: int, height: int = 64, width: int = 32, *, covered: bool = True, pseudo: int = 0, seed: int = 0
) -> View:
    """N versions: regions in bands from head to feet, and a box over every other one where ``covered``.

    ``pseudo`` > 0 gives the method's own labels 0..pseudo, in bands too.
    """
    random = np.random.default_rng(seed)
    rows = np.arange(height)[:, None].repeat(width, 1)  # [H, W]
    inside = np.abs(np.arange(width) - width / 2) < width / 3  # [W]
    bands = np.where(inside, 1 + rows * REGIONS // height, 0)  # [H, W]
    mask = np.zeros((count, height, width), np.bool_)
    if covered:
        for row in range(1, count, 2):
            top, left = random.integers(0, height // 2), random.integers(0, width // 2)
            mask[row, top : top + height // 3, left : left + width // 2] = True
    regions = np.where(mask, 0, bands).astype(np.uint8)  # [N, H, W]
    visibility = np.ones((count, 1 + REGIONS), np.float32)  # the person, then each region
    for part in range(1 + REGIONS):
        belongs = bands > 0 if part == 0 else bands == part
        visibility[:, part] = (belongs & ~mask).sum(axis=(1, 2)) / belongs.sum()
    points = random_points(count, height, width, random)
    columns, lines = points[:, :, 0].round().long(), points[:, :, 1].round().long()  # [N, 17]
    hidden = torch.from_numpy(mask)[torch.arange(count)[:, None], lines, columns]
    points[:, :, 2] *= ~hidden
    own = np.full((count, height, width), UNKNOWN, np.uint8)
    if pseudo:
        own[:] = np.where(inside, 1 + rows * pseudo // height, 0)
        own[mask] = 0
    return View(
        random_images(count, height, width, seed),
        torch.from_numpy(regions),
        torch.from_numpy(visibility),
        torch.ones(count, 1 + REGIONS, dtype=torch.bool),
        torch.from_numpy(mask),
        points,
        torch.from_numpy(own),
    )


def random_batch(
    count: int = 8,
    height: int = 64,
    width: int = 32,
    *,
    views: Sequence[str] = (),
    pseudo: int = 0,
    identities: int = 4,
    known: Sequence[bool] | None = None,
    seed: int = 0,
) -> Batch:
    """N samples, images of one identity side by side, and the same number of images under every name of ``views``.

    The base is whole, every other image of a view is covered.
    """
    each = -(-count // identities)
    return Batch(
        random_view(count, height, width, covered=False, pseudo=pseudo, seed=seed),
        torch.arange(count) // each,
        torch.arange(count) % 2,
        torch.arange(count),
        torch.ones(count, dtype=torch.bool) if known is None else torch.tensor(list(known)),
        {name: random_view(count, height, width, pseudo=pseudo, seed=seed + 1 + i) for i, name in enumerate(views)},
    )
