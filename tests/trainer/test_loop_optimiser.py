"""Learning rates by hand, and which parameter gets which."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from trainer.loop.optimiser import build_optimiser, parameter_groups, rate_factor
from trainer.recipe import ScheduleRecipe


def schedule(**values: Any) -> ScheduleRecipe:
    return ScheduleRecipe(steps=100, **values)


class Named(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
        self.frozen = torch.nn.Linear(4, 4).requires_grad_(False)
        self.head = torch.nn.Linear(4, 2)
        self.proxies = torch.nn.Parameter(torch.ones(5, 4))


@pytest.mark.parametrize(
    ("values", "step", "factor"),
    [
        # Ten steps of warm-up: from a tenth, since a step at rate 0 would be lost, to the full rate.
        ({"warmup": 0.1}, 0, 0.1),
        ({"warmup": 0.1}, 5, 0.1 + 0.9 * 0.5),
        ({"warmup": 0.1}, 10, 1.0),
        ({"warmup": 0.1, "warmup_from": 0.01}, 0, 0.01),
        ({"warmup": 0.1, "warmup_from": 0.01}, 5, 0.01 + 0.99 * 0.5),
        ({"warmup": 0.0}, 0, 1.0),
        # Half a cosine over the 90 steps that are left.
        ({"warmup": 0.1}, 55, 0.5),
        ({"warmup": 0.1}, 100, 0.0),
        ({"warmup": 0.1, "final": 0.2}, 55, 0.6),
        ({"warmup": 0.1, "final": 0.2}, 100, 0.2),
        ({"warmup": 0.0, "decay": "multistep", "milestones": [0.4, 0.7]}, 39, 1.0),
        ({"warmup": 0.0, "decay": "multistep", "milestones": [0.4, 0.7]}, 40, 0.1),
        ({"warmup": 0.0, "decay": "multistep", "milestones": [0.4, 0.7]}, 99, 0.01),
        ({"warmup": 0.5, "decay": "multistep", "milestones": [0.4], "gamma": 0.5}, 40, (0.02 + 0.98 * 0.8) * 0.5),
    ],
)
def test_the_rate_follows_the_recipe(values: dict[str, Any], step: int, factor: float) -> None:
    assert rate_factor(schedule(**values), step, 100) == pytest.approx(factor, abs=1e-12)


def test_parameters_are_grouped_by_place_and_kind() -> None:
    chosen = schedule(learning_rate=0.1, backbone_rate=0.5, bias_rate=2.0, weight_decay=0.01)
    groups = {group["name"]: group for group in parameter_groups(Named().named_parameters(), chosen)}
    shown = {name: (group["lr"], group["weight_decay"], len(group["params"])) for name, group in groups.items()}
    assert shown == {
        "backbone_weights": (0.05, 0.01, 1),  # the convolution
        "backbone_weights_undecayed": (0.05, 0.0, 1),  # the norm
        "backbone_biases_undecayed": (0.1, 0.0, 2),
        "head_weights": (0.1, 0.01, 1),
        "head_weights_undecayed": (0.1, 0.0, 1),  # proxies
        "head_biases_undecayed": (0.2, 0.0, 1),
    }


def test_decay_on_everything_leaves_out_proxies_alone() -> None:
    groups = parameter_groups(Named().named_parameters(), schedule(decay_all=True, weight_decay=0.01))
    assert [group["name"] for group in groups if group["weight_decay"] == 0] == ["head_weights_undecayed"]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"optimiser": "adamw"}, torch.optim.AdamW),
        ({"optimiser": "adam"}, torch.optim.Adam),
        ({"optimiser": "sgd", "momentum": 0.8, "nesterov": True}, torch.optim.SGD),
    ],
)
def test_the_optimiser_is_the_recipes(values: dict[str, Any], kind: type) -> None:
    optimiser = build_optimiser(Named(), schedule(**values))
    assert type(optimiser) is kind
    if kind is torch.optim.SGD:
        assert (optimiser.defaults["momentum"], optimiser.defaults["nesterov"]) == (0.8, True)


def test_one_step_of_sgd_is_the_rate_times_the_gradient() -> None:
    module = Named()
    optimiser = build_optimiser(
        module, schedule(optimiser="sgd", momentum=0, learning_rate=0.1, backbone_rate=0.5, weight_decay=0.0)
    )
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    moved = {name: before[name] - parameter.detach() for name, parameter in module.named_parameters()}
    torch.testing.assert_close(moved["head.weight"], torch.full((2, 4), 0.1))
    torch.testing.assert_close(moved["backbone.0.weight"], torch.full((4, 3, 3, 3), 0.05))
    assert not moved["frozen.weight"].any()
