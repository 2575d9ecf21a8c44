"""The optimiser and its learning rates, as the recipe's schedule says."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from trainer.recipe import ScheduleRecipe

_UNDECAYED = {"proxies"}
"""Parameters by their last name that only count by direction: decay would change nothing but their rate."""


def parameter_groups(parameters: Iterable[tuple[str, nn.Parameter]], schedule: ScheduleRecipe) -> list[dict[str, Any]]:
    """Groups for an optimiser: backbone or head, weights or biases, decayed or not, each with its own ``name``.

    The backbone is what is named ``backbone.``; parameters without a gradient are left out. Unless
    ``schedule.decay_all``, only parameters of two or more dimensions decay.
    """
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in parameters:
        if not parameter.requires_grad:
            continue
        backbone, last = name.startswith("backbone."), name.rpartition(".")[2]
        bias = last == "bias"
        decays = (parameter.ndim > 1 or schedule.decay_all) and last not in _UNDECAYED
        rate = (schedule.backbone_rate if backbone else 1.0) * (schedule.bias_rate if bias else 1.0)
        group = "_".join(
            ("backbone" if backbone else "head", "biases" if bias else "weights", *(() if decays else ("undecayed",)))
        )
        groups.setdefault(
            group,
            {
                "name": group,
                "params": [],
                "lr": schedule.learning_rate * rate,
                "weight_decay": schedule.weight_decay if decays else 0.0,
            },
        )["params"].append(parameter)
    return list(groups.values())


def build_optimiser(method: nn.Module, schedule: ScheduleRecipe) -> torch.optim.Optimizer:
    """AdamW, Adam (decay as a gradient) or SGD over the method's parameter groups."""
    groups = parameter_groups(method.named_parameters(), schedule)
    # One kernel for all parameters. Not with a gradient scaler: Lightning cannot clip beside it.
    fused = schedule.precision != "16"
    if schedule.optimiser == "sgd":
        return torch.optim.SGD(groups, momentum=schedule.momentum, nesterov=schedule.nesterov, fused=fused)
    kind = torch.optim.AdamW if schedule.optimiser == "adamw" else torch.optim.Adam
    return kind(groups, fused=fused)


def rate_factor(schedule: ScheduleRecipe, step: int, steps: int) -> float:
    """The factor on every learning rate at a step, counted from 0, of so many.

    Linear warm-up from ``warmup_from`` (from one warm-up step's worth where that is 0: a step at rate 0 would be
    lost), then cosine decay to ``final``, or ``gamma`` once for every milestone passed.
    """
    warm = round(schedule.warmup * steps)
    factor = 1.0
    if step < warm:
        first = schedule.warmup_from or 1.0 / warm
        factor = first + (1.0 - first) * step / warm
    if schedule.decay == "multistep":
        return factor * schedule.gamma ** sum(step >= milestone * steps for milestone in schedule.milestones)
    if step < warm:
        return factor
    share = (step - warm) / max(1, steps - warm)
    return schedule.final + (1.0 - schedule.final) * 0.5 * (1.0 + math.cos(math.pi * share))
