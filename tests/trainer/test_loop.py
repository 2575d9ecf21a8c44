"""What the loop refuses to go on with."""

from __future__ import annotations

import math

import pytest
import torch

from glimpse.people import PARTS
from trainer.data.batch import Batch
from trainer.loop import TrainingError, TrainingModule
from trainer.recipe import load_recipe


class Diverged(torch.nn.Module):
    """A method whose triplet loss is NaN."""

    def losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {"identity": torch.tensor(1.0), "triplet": torch.tensor(math.nan)}


def test_a_loss_that_is_not_finite_stops_training_and_names_the_batch() -> None:
    module = TrainingModule(Diverged(), load_recipe("glimpse-baseline"))
    batch = Batch(
        torch.zeros(2, 32, 16, 3, dtype=torch.uint8),
        torch.tensor([41, 7]),
        torch.zeros(2, 32, 16, dtype=torch.uint8),
        torch.ones(2, len(PARTS)),
        torch.ones(2, dtype=torch.bool),
    )
    with pytest.raises(TrainingError, match=r"'triplet': nan.*identities of the batch: \[7, 41\]"):
        module.training_step(batch, 0)
