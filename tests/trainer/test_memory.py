"""The memory of class centres: how it starts, moves and is searched."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainer.memory import CentreMemory, gathered, identity_means


class Three:
    """A training set of three one-pixel images, the middle one of another person."""

    epoch = 0
    identities = np.array([0, 2, 0])

    def images(self, rows: list[int]) -> np.ndarray:
        return np.array([[[[row, 10 * row, 0]]] for row in rows], np.uint8)

    def set_pseudo_labels(self, rows: object, labels: object) -> None:
        raise AssertionError("nobody asked for it")


def test_a_centre_keeps_a_fifth_of_itself_at_every_step_of_its_identity() -> None:
    memory = CentreMemory(3, 2)
    memory.fill(torch.tensor([[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]]))
    memory.update(torch.tensor([[2.0, 2.0], [0.0, 3.0], [1.0, 0.0]]), torch.tensor([0, 1, 0]))
    # c0: .2 (1, 0) + .8 (2, 2) = (1.8, 1.6), then .2 (1.8, 1.6) + .8 (1, 0) = (1.16, .32); lengths are kept.
    expected = torch.tensor([[1.16, 0.32], [0.0, 2.6], [5.0, 5.0]])
    torch.testing.assert_close(memory.centres, expected)


def test_filling_copies() -> None:
    memory, other, means = CentreMemory(2, 2), CentreMemory(2, 2), torch.ones(2, 2)
    assert not memory.filled
    memory.fill(means)
    other.fill(means)
    memory.update(torch.zeros(1, 2), torch.tensor([0]))
    assert memory.filled
    torch.testing.assert_close(other.centres, torch.ones(2, 2))
    torch.testing.assert_close(means, torch.ones(2, 2))


def test_neighbours_are_the_most_similar_others_at_unit_length() -> None:
    memory = CentreMemory(4, 2)
    memory.fill(torch.tensor([[3.0, 0.0], [2.0, 2.0], [0.0, 1.0], [-1.0, 0.0]]))
    found = memory.nearest_others(torch.tensor([[9.0, 1.0], [9.0, 1.0]]), torch.tensor([0, 3]), 2)
    half = 0.5**0.5
    torch.testing.assert_close(found[0], torch.tensor([[half, half], [0.0, 1.0]]))  # never oneself
    torch.testing.assert_close(found[1], torch.tensor([[1.0, 0.0], [half, half]]))
    assert memory.nearest_others(torch.ones(1, 2), torch.tensor([0]), 8).shape == (1, 3, 2)


def test_memory_travels_in_the_state() -> None:
    memory = CentreMemory(2, 3)
    memory.fill(torch.rand(2, 3))
    other = CentreMemory(2, 3)
    other.load_state_dict(memory.state_dict())
    assert other.filled
    torch.testing.assert_close(other.centres, memory.centres)


def test_identity_means_are_of_each_ones_images() -> None:
    means = identity_means(Three(), lambda images: images[:, 0, 0, :2].float(), 4, "cpu", batch=2)
    torch.testing.assert_close(means, torch.tensor([[1.0, 10.0], [0.0, 0.0], [1.0, 10.0], [0.0, 0.0]]))


def test_identity_means_need_images() -> None:
    empty = Three()
    empty.identities = np.array([], np.int64)
    with pytest.raises(ValueError, match="no images"):
        identity_means(empty, lambda images: images, 1, "cpu")


def _gather(rank: int, file: str, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    rows = gathered(torch.full((2, 1), float(rank)))
    known = gathered(torch.tensor([rank == 0, True]))
    torch.save((rows, known), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_rows_of_all_processes_are_gathered_in_order(tmp_path) -> None:
    torch.multiprocessing.spawn(_gather, (str(tmp_path / "meet"), str(tmp_path)), nprocs=2)
    for rank in range(2):
        rows, known = torch.load(tmp_path / f"{rank}.pt")
        assert rows.flatten().tolist() == [0, 0, 1, 1]
        assert known.tolist() == [True, True, False, True]


def test_one_process_gathers_its_own_rows() -> None:
    rows = torch.rand(2, 2)
    assert gathered(rows) is rows
