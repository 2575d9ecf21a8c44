"""A last stage that keeps its resolution: "last stride 1" (Luo et al., CVPRW 2019), for any convolutional network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_HEIGHT, _WIDTH = 256, 128


def keep_last_resolution(network: nn.Module, stride: int) -> None:
    """Takes the stride out of whatever halves the map from ``stride / 2`` to ``stride``; weights stay as they are.

    No dilation: the kernels of the last stage then look at half the surroundings they were trained for, as in Luo
    et al.; timm's own ``output_stride`` would dilate them instead.

    Args:
        network: a timm ``features_only`` model whose last map has ``stride``.

    Raises:
        ValueError: the network cannot keep its resolution that way.
    """
    before = (_HEIGHT * 2 // stride, _WIDTH * 2 // stride)
    halving: list[nn.Module] = []

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if module.stride in (2, (2, 2)) and tuple(inputs[0].shape[2:]) == before:
            halving.append(module)

    strided = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
    hooks = [m.register_forward_pre_hook(look) for m in network.modules() if isinstance(m, strided)]
    _last_size(network)
    for hook in hooks:
        hook.remove()
    for module in halving:
        module.stride = (1, 1)
        if isinstance(module, nn.AvgPool2d):  # the shortcut of ResNet-D
            module.kernel_size = 1
    try:
        after = _last_size(network)
    except RuntimeError:
        after = None
    if after != before:
        raise ValueError(
            f"last_stride 1 does not fit this backbone: its stage of stride {stride} does not keep the resolution of "
            f"the one before when its strides are 1; use 2"
        )


def _last_size(network: nn.Module) -> tuple[int, ...]:
    mode = network.training
    network.eval()
    with torch.no_grad():
        size = tuple(network(torch.zeros(1, 3, _HEIGHT, _WIDTH))[-1].shape[2:])
    network.train(mode)
    return size
