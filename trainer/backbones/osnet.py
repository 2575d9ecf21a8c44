"""OSNet (Zhou et al., ICCV 2019) with its batch norms folded into the convolutions, as a backbone that comes trained.

Intel publishes OSNets for re-identification under Apache-2.0 as OpenVINO IR (person-reidentification-retail-0277,
0286, 0287: widths 64, 48, 32). `osnet_weights` reads such a file into an `OSNet`, whose embedding is then the
published model's. **They were trained on Market-1501's training part** (among others): whatever starts from them has
seen it too, and must say so.

Differences from the paper, all theirs: the image and the first convolution's output pass an instance norm; the first
block of a stage gates its streams by a squeezed mean, the second by a group-normalised one; and instead of averaging,
the map is pooled with a weight for each of its 16 x 8 cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

_STREAMS = 4
_GRID = (16, 8)  # of the deepest map at 256 x 128
WIDTHS = {"osnet_32": 32, "osnet_48": 48, "osnet_64": 64}
"""Own names of backbones; the published models are 0287, 0286 and 0277."""


class LightConv(nn.Module):  # type: ignore[misc]
    """1x1 convolution, then 3x3 of each channel, ReLU: OSNet's "Lite 3x3"."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.point = nn.Conv2d(width, width, 1, bias=False)
        self.depth = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.depth(self.point(x)))


class SqueezeGate(nn.Module):  # type: ignore[misc]
    """A channel's weight from all channels' means: the paper's aggregation gate."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(width, width // 16, 1)
        self.expand = nn.Conv2d(width // 16, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.expand(F.relu(self.squeeze(means))))


class NormGate(nn.Module):  # type: ignore[misc]
    """A channel's weight from its own mean, normalised within its group of channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.groups = 16 if width % 16 == 0 else 8
        self.scale = nn.Parameter(torch.ones(1, width, 1, 1))
        self.shift = nn.Parameter(torch.zeros(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean((2, 3))  # [N, C]
        groups = means.unflatten(1, (self.groups, -1))  # [N, groups, C / groups]
        centred = groups - groups.mean(2, keepdim=True)
        normal = centred * torch.rsqrt(centred.square().mean(2, keepdim=True) + 1e-5)
        return x * torch.sigmoid(normal.flatten(1)[:, :, None, None] * self.scale + self.shift)


class Block(nn.Module):  # type: ignore[misc]
    """Omni-scale residual block: streams of one to four `LightConv`, gated by one shared gate and summed."""

    def __init__(self, entering: int, width: int, gate: type[nn.Module]) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(entering, width, 1)
        self.streams = nn.ModuleList(
            nn.Sequential(*(LightConv(width) for _ in range(depth))) for depth in range(1, _STREAMS + 1)
        )
        self.gate = gate(width)
        self.expand = nn.Conv2d(width, 4 * width, 1)
        self.shortcut = nn.Conv2d(entering, 4 * width, 1) if entering != 4 * width else None

    def forward(self, x: Tensor) -> Tensor:
        reduced = F.relu(self.reduce(x))
        mixed = self.expand(sum(self.gate(stream(reduced)) for stream in self.streams))
        return F.relu(mixed + (x if self.shortcut is None else self.shortcut(x)))


class OSNet(nn.Module):  # type: ignore[misc]
    """Feature maps at strides 4, 8 and 16, and the published embedding.

    Args:
        width: channels of the first stage's streams: 64, 48 or 32; the others have 1.5 and 2 times as many.
        out_indices: which of the maps `forward` gives, finest first.

    Attributes:
        dim: of `embed`, 256.
    """

    dim = 256

    def __init__(self, width: int, out_indices: tuple[int, ...] = (0, 1, 2)) -> None:
        super().__init__()
        widths = [width, width * 3 // 2, width * 2]
        channels = [4 * width for width in widths]
        self.out_indices = out_indices
        self.entry = nn.InstanceNorm2d(3, affine=True)
        self.stem = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.stem_norm = nn.InstanceNorm2d(width, affine=True)
        entering = [width, channels[0], channels[1]]
        self.stages = nn.ModuleList(
            nn.Sequential(
                Block(enter, inner, SqueezeGate), Block(4 * inner, inner, NormGate), nn.Conv2d(4 * inner, 4 * inner, 1)
            )
            for enter, inner in zip(entering, widths, strict=True)
        )
        self.pool = nn.Conv2d(channels[-1], channels[-1], _GRID, groups=channels[-1])
        self.project = nn.Linear(channels[-1], self.dim)
        self.activate = nn.PReLU(init=0.25)
        # As timm describes a features_only model.
        self.pretrained_cfg = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
        chosen, strides = [channels[i] for i in out_indices], [(4, 8, 16)[i] for i in out_indices]
        self.feature_info = SimpleNamespace(channels=lambda: chosen, reduction=lambda: strides)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Normalised ``(N, 3, H, W)`` to maps ``(N, C_i, H / s_i, W / s_i)``."""
        x = F.relu(self.stem_norm(self.stem(self.entry(pixels))))
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        maps = []
        for stage in self.stages:
            x = F.relu(stage(x))
            maps.append(x)
            x = F.avg_pool2d(x, 2)
        return [maps[i] for i in self.out_indices]

    def embed(self, deepest: Tensor) -> Tensor:
        """The deepest map ``(N, C, 16, 8)`` to the published embedding ``(N, 256)``, not normalised."""
        pooled = self.pool(deepest).flatten(1)  # [N, C]
        projected: Tensor = self.activate(self.project(pooled))
        return projected

    def embed_regions(self, deepest: Tensor, regions: Tensor) -> Tensor:
        """What a cell of each region adds to the embedding: `embed` is linear up to its last step, a sum over cells.

        Args:
            deepest: ``(N, C, 16, 8)``. regions: ``(N, K, h, w)`` in [0, 1], at any multiple of that grid.

        Returns:
            ``(N, K, 256)``, the mean over the region's cells, without the bias that belongs to no region.
        """
        masks = F.adaptive_avg_pool2d(regions, _GRID)  # [N, K, 16, 8]
        weighted = (deepest * self.pool.weight[:, 0]).flatten(2)  # [N, C, 128]
        area = masks.sum((2, 3)).clamp_min(0.25)  # [N, K] in cells
        pooled = torch.bmm(masks.flatten(2), weighted.transpose(1, 2)) / area[:, :, None]  # [N, K, C]
        return F.linear(pooled, self.project.weight)


def create_osnet(name: str, strides: Sequence[int], weights: str | None) -> OSNet:
    """An `OSNet` with maps of the given strides, trained if ``weights`` is the path of Intel's IR.

    Raises:
        ValueError: a stride it does not have, or weights of another width.
    """
    known = [4, 8, 16]
    if not strides or [s for s in known if s in strides] != list(strides):
        raise ValueError(f"backbone {name!r} has maps of stride {known}, finest first; got {list(strides)}")
    network = OSNet(WIDTHS[name], tuple(known.index(stride) for stride in strides))
    if weights is not None:
        state = osnet_weights(Path(weights).expanduser())
        if state["stem.weight"].shape[0] != WIDTHS[name]:
            raise ValueError(f"{weights} holds an OSNet of width {state['stem.weight'].shape[0]}, {name!r} has another")
        network.load_state_dict(state)
    return network


def osnet_weights(path: Path) -> dict[str, Tensor]:
    """The state of an `OSNet` from Intel's IR (``.xml`` with its ``.bin`` beside it).

    Constants come in the order in which the graph uses them, which is the order of `_layout`; the batch norm of the
    embedding is folded into its projection. IR takes BGR in [0, 255]: the first constants only swap and normalise,
    which `Backbone` does.

    Raises:
        ValueError: another graph. FileNotFoundError: no such file. ImportError: OpenVINO is not installed.
    """
    import openvino

    if not path.is_file() or not path.with_suffix(".bin").is_file():
        raise FileNotFoundError(f"no OpenVINO IR at {path} (.xml and .bin)")
    graph = openvino.Core().read_model(path)
    constants = [torch.from_numpy(value.copy()) for value in _constants(graph)]
    width = constants[2].shape[0]  # after the entry's scale and shift: the stem
    network = OSNet(width)
    state = network.state_dict()
    names = list(_layout(network))
    tail = constants[len(names) :]
    if len(tail) != 5:
        raise ValueError(
            f"{path.name} is no OSNet of this family: {len(constants)} constants, expected {len(names) + 5}"
        )
    found: dict[str, Tensor] = {}
    for name, value in zip(names, constants, strict=False):
        if value.numel() != state[name].numel():
            raise ValueError(f"{path.name}: {tuple(value.shape)} does not fit {name} {tuple(state[name].shape)}")
        found[name] = value.reshape(state[name].shape)
    matrix, (bias, scale, shift, slope) = tail[0], (value.flatten() for value in tail[1:])
    found["project.weight"] = (matrix if len(matrix) == OSNet.dim else matrix.T) * scale[:, None]
    found["project.bias"] = bias * scale + shift
    found["activate.weight"] = slope.reshape(1)
    return found


def _constants(graph: Any) -> Iterator[Any]:
    """Float constants of more than one element (and the PReLU's slope) in order of use, without the pixel scaling."""
    used = []
    for node in graph.get_ordered_ops():
        kind = node.get_type_name()
        if kind not in ("Convolution", "GroupConvolution", "Add", "Multiply", "MatMul", "PRelu"):
            continue
        for value in node.input_values():
            source = value.get_node()
            if source.get_type_name() == "Convert":
                source = source.input_value(0).get_node()
            if source.get_type_name() == "Constant" and source.get_element_type().is_real():
                used.append(np.asarray(source.data, np.float32))
    yield from used[1:]  # the first multiplies pixels by 1 / std


def _layout(network: OSNet) -> Iterator[str]:
    """Names of the tensors in the order in which the graph uses them; a shared gate comes once a stream."""
    yield from ("entry.weight", "entry.bias", "stem.weight", "stem_norm.weight", "stem_norm.bias")
    for s, stage in enumerate(network.stages):
        for b, block in enumerate(stage[:2]):
            prefix = f"stages.{s}.{b}"
            yield from (f"{prefix}.reduce.weight", f"{prefix}.reduce.bias")
            for stream in range(_STREAMS):
                for conv in range(stream + 1):
                    light = f"{prefix}.streams.{stream}.{conv}"
                    yield from (f"{light}.point.weight", f"{light}.depth.weight", f"{light}.depth.bias")
                if isinstance(block.gate, SqueezeGate):
                    for layer in ("squeeze", "expand"):
                        yield from (f"{prefix}.gate.{layer}.weight", f"{prefix}.gate.{layer}.bias")
                else:
                    yield from (f"{prefix}.gate.scale", f"{prefix}.gate.shift")
            yield from (f"{prefix}.expand.weight", f"{prefix}.expand.bias")
            if block.shortcut is not None:
                yield from (f"{prefix}.shortcut.weight", f"{prefix}.shortcut.bias")
        yield from (f"stages.{s}.2.weight", f"stages.{s}.2.bias")
    yield from ("pool.weight", "pool.bias")
