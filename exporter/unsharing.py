"""Weights of an int8 graph, one set a layer.

A layer that a network applies in several places has its weights, converted back to float, read by several operators.
ONNX Runtime changes them to U8 for processors without VNNI, where U8 x S8 overflows; it does so once for each operator
that reads them and fails at the second. The copies are of small gates and necks: some kilobytes.
"""

from __future__ import annotations

from typing import Any


def unshare_weights(model: Any) -> None:
    """Gives each operator its own copy of a constant that is converted from int8, in place; results stay the same."""
    constants = {constant.name: constant for constant in model.graph.initializer}
    converted = {
        node.output[0]: node
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in constants
    }
    seen: set[str] = set()
    nodes: list[Any] = []
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name not in converted:
                continue
            if name in seen:
                node.input[place] = _copied(model, converted[name], constants, nodes)
            seen.add(name)
        nodes.append(node)
    ordered = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(ordered)


def _copied(model: Any, source: Any, constants: dict[str, Any], nodes: list[Any]) -> str:
    """Adds a copy of a conversion and its constants before whatever comes next; the name of what it gives."""
    suffix = f"_copy{len(nodes)}"
    copy = type(source).FromString(source.SerializeToString())
    copy.name, copy.output[0] = copy.name + suffix, copy.output[0] + suffix
    for place, name in enumerate(copy.input):
        constant = type(constants[name]).FromString(constants[name].SerializeToString())
        constant.name = copy.input[place] = name + suffix
        model.graph.initializer.append(constant)
    nodes.append(copy)
    return str(copy.output[0])
