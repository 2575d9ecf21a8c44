"""The layers of a graph in groups that can stay in float32: named by the module whose weights they use."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

WEIGHTED = ("Conv", "Gemm", "MatMul", "ConvTranspose")
"""The operators that cost time, and that int8 makes fast."""
_BACKBONE = "backbone"


@dataclass(frozen=True)
class LayerGroup:
    """Layers that are kept in float32 together."""

    name: str
    nodes: tuple[str, ...]
    """Names of the graph's nodes."""
    sensitive: bool
    """Whether experience says to try it first: the stem, the last convolution, and whatever is not the backbone."""


def layer_groups(model: Any) -> tuple[LayerGroup, ...]:
    """The groups of an `onnx.ModelProto`, the sensitive ones first, in the order of the graph.

    A head is a group (``part_attention``, ``necks``, ``visibility``), products of two activations are one
    (``products``), and so is each block of the backbone, of which the first and last layer stand alone.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    weighted = [node for node in model.graph.node if node.op_type in WEIGHTED]
    where = [_module(node, constants) for node in weighted]
    backbone = [i for i, module in enumerate(where) if module.startswith(_BACKBONE)]
    names = [_group(module) for module in where]
    if backbone:
        names[backbone[0]], names[backbone[-1]] = "stem", "last"
    groups: dict[str, list[str]] = {}
    for node, name in zip(weighted, names, strict=True):
        groups.setdefault(name, []).append(node.name)
    found = [LayerGroup(name, tuple(nodes), not name.startswith(_BACKBONE)) for name, nodes in groups.items()]
    return tuple(sorted(found, key=lambda group: not group.sensitive))  # stable


def nodes_of(groups: Sequence[LayerGroup], kept: Collection[str]) -> list[str]:
    """The node names of the groups called ``kept``."""
    return [node for group in groups if group.name in kept for node in group.nodes]


def nodes_between(model: Any, groups: Sequence[LayerGroup], op_types: Collection[str]) -> dict[str, str]:
    """Nodes of these types before the backbone's last weights -> the group of the weights that they follow.

    They go with their group: a sum that stays in int8 inside a block in float32 would cost what the block was to save.
    """
    of = {node: group.name for group in groups for node in group.nodes}
    constants = {tensor.name for tensor in model.graph.initializer}
    found: dict[str, str] = {}
    waiting: dict[str, str] = {}
    group = ""
    for node in model.graph.node:
        if node.name in of:
            group = of[node.name]
            if _module(node, constants).startswith(_BACKBONE):
                found |= waiting  # more of the backbone follows
                waiting = {}
        elif group and node.op_type in op_types:
            waiting[node.name] = group
    return found


def _module(node: Any, constants: Collection[str]) -> str:
    """The torch module of a node's weights; ``products`` where it has none."""
    for name in node.input:
        if name in constants and "." in name:
            return str(name.rpartition(".")[0])
    return _BACKBONE if any(name in constants for name in node.input) else "products"


def _group(module: str) -> str:
    """``backbone.network.blocks.3.1.conv_pw`` -> ``backbone.network.blocks.3``; ``necks.2.project`` -> ``necks``."""
    steps = module.split(".")
    if steps[0] != _BACKBONE:
        return steps[0]
    for i, step in enumerate(steps):
        if step.isdigit():
            return ".".join(steps[: i + 1])
    return ".".join(steps[:3])
