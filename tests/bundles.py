"""A tiny real bundle, made in milliseconds: an ONNX graph that describes bands of colour.

Every server and runtime test uses it, so that none needs a trained model. The image is cut into eight horizontal
bands; each part sees some of them. A part's vector is a fixed random projection of its bands' mean colours; its
visibility is their brightness, so a black band is a hidden part.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from glimpse.bundle import Bundle, SchemaEntry, golden_bytes, utc_now, write_bundle
from glimpse.parts import Part, PartFeatures, PartSchema

HEIGHT, WIDTH, BANDS = 64, 32, 8
SCHEMA = PartSchema(
    (
        Part("global", 16, always_visible=True),
        Part("head", 8),
        Part("upper", 12),
        Part("arms", 8),
        Part("legs", 12),
        Part("feet", 8),
    ),
    prior=0.1,
)
SEEN_BANDS = {
    "global": range(0, 8),
    "head": range(0, 1),
    "upper": range(1, 4),
    "arms": range(2, 4),
    "legs": range(4, 7),
    "feet": range(7, 8),
}


def tiny_bundle(
    path: Path, *, version: str = "1.0.0", seed: int = 0, work: int = 0, schema: PartSchema = SCHEMA
) -> Bundle:
    """Writes the bundle to ``path`` (a folder, or a file ending in ``.zip``) and opens it.

    Args:
        seed: of the projections; another seed is another model.
        work: convolutions added to make the model slow, about half a millisecond each on one core.
    """
    graph = tiny_graph(schema, seed=seed, work=work).SerializeToString()
    images = np.stack([person(identity) for identity in range(3)] + [person(7, hidden=("legs", "feet"))])
    manifest = {
        "name": "tiny",
        "version": version,
        "method": "bands",
        "license": "Apache-2.0",
        "preprocessing": {"height": HEIGHT, "width": WIDTH, "interpolation": "linear"},
        "schema": SchemaEntry.of(schema).model_dump(),
        "opset": 17,
        "provenance": {
            "command": "tests/bundles.py",
            "seed": seed,
            "created_at": utc_now(),
            "training_data": "none",
            "backbone": "none",
        },
    }
    golden = golden_bytes(images, _reference(images, schema, seed))
    return write_bundle(path, manifest, {"model.onnx": graph, "golden.npz": golden})


def person(
    identity: int, *, shot: int = 0, hidden: tuple[str, ...] = (), size: tuple[int, int] = (HEIGHT, WIDTH)
) -> NDArray[np.uint8]:
    """A "person": uint8 RGB ``(height, width, 3)``, one colour a band by identity, a little noise by shot.

    Bands of ``hidden`` parts are black.
    """
    colours = np.random.default_rng(identity).integers(70, 250, (BANDS, 3))
    for part in hidden:
        colours[list(SEEN_BANDS[part])] = 0
    image = np.repeat(np.repeat(colours[:, None], HEIGHT // BANDS, 0), WIDTH, 1).astype(np.float64)
    noise = np.random.default_rng((identity, shot, 1)).normal(0, 4, image.shape)
    pixels = np.clip(image + np.where(image > 0, noise, 0), 0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_NEAREST), np.uint8)


def encoded(image: NDArray[np.uint8], kind: str = ".png") -> bytes:
    """The image as PNG, JPEG... bytes."""
    done, data = cv2.imencode(kind, np.ascontiguousarray(image[..., ::-1]))
    assert done
    return data.tobytes()


def tiny_graph(schema: PartSchema, *, seed: int, work: int = 0) -> onnx.ModelProto:
    """uint8 ``images (N, 64, 32, 3)`` -> ``vectors``, ``visibility``."""
    constants: dict[str, NDArray[np.generic]] = {
        "bands_shape": np.array([0, BANDS, -1, 3], np.int64),
        "flat": np.array([0, -1], np.int64),
        "scale": np.array(1 / 255, np.float32),
        "half": np.array(0.5, np.float32),
        "gain": np.array(4.0, np.float32),
        "zero": np.array(0, np.float32),
        "one": np.array(1, np.float32),
        "dims": np.array(schema.dims, np.int64),
        "projection": _projection(schema, seed),
        "bias": _bias(schema, seed),
        "share": _share(schema),
        "always": schema.always_visible.astype(np.float32),
    }
    node = helper.make_node
    nodes = [
        node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        node("Mul", ["float", "scale"], ["pixels"]),
        node("Reshape", ["pixels", "bands_shape"], ["bands"]),
        node("ReduceMean", ["bands"], ["colours"], axes=[2], keepdims=0),  # [N, 8, 3]
        node("Sub", ["colours", "half"], ["centred"]),
        node("Reshape", ["centred", "flat"], ["described"]),
        node("MatMul", ["described", "projection"], ["projected"]),
        node("Add", ["projected", "bias"], ["raw"]),
        node("Split", ["raw", "dims"], [f"part{p}" for p in range(len(schema))], axis=1),
        *(node("LpNormalization", [f"part{p}"], [f"unit{p}"], axis=1, p=2) for p in range(len(schema))),
        node("Concat", [f"unit{p}" for p in range(len(schema))], ["fast"], axis=1),
        node("ReduceMean", ["colours"], ["brightness"], axes=[2], keepdims=0),  # [N, 8]
        node("MatMul", ["brightness", "share"], ["mean_brightness"]),
        node("Mul", ["mean_brightness", "gain"], ["bright"]),
        node("Clip", ["bright", "zero", "one"], ["clipped"]),
        node("Max", ["clipped", "always"], ["visibility"]),
    ]
    nodes += _heavy(work, constants) if work else [node("Identity", ["fast"], ["vectors"])]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", HEIGHT, WIDTH, 3])],
        [
            helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["N", schema.width]),
            helper.make_tensor_value_info("visibility", TensorProto.FLOAT, ["N", len(schema)]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def _heavy(work: int, constants: dict[str, NDArray[np.generic]]) -> list[onnx.NodeProto]:
    """A stack of convolutions whose result is added with a weight of nothing."""
    random = np.random.default_rng(0)
    constants["stem"] = random.normal(0, 0.2, (32, 3, 3, 3)).astype(np.float32)
    constants["filter"] = random.normal(0, 0.08, (32, 32, 3, 3)).astype(np.float32)
    constants["nothing"] = np.array(1e-12, np.float32)
    node = helper.make_node
    nodes = [
        node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        node("Conv", ["planes", "stem"], ["layer0"], pads=[1, 1, 1, 1]),
    ]
    for layer in range(work):
        nodes += [
            node("Conv", [f"layer{layer}", "filter"], [f"conv{layer}"], pads=[1, 1, 1, 1]),
            node("Relu", [f"conv{layer}"], [f"layer{layer + 1}"]),
        ]
    return [
        *nodes,
        node("ReduceMean", [f"layer{work}"], ["heavy"], axes=[1, 2, 3], keepdims=0),
        node("Reshape", ["heavy", "flat"], ["heavy_column"]),
        node("Mul", ["heavy_column", "nothing"], ["added"]),
        node("Add", ["fast", "added"], ["vectors"]),
    ]


def _projection(schema: PartSchema, seed: int) -> NDArray[np.float32]:
    """float32 ``(8 bands * 3, sum D)``: each part's columns read only the bands it sees."""
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(BANDS, 3, schema.width))
    for name, columns in zip(schema.names, schema.slices, strict=True):
        for band in set(range(BANDS)) - set(SEEN_BANDS[name]):
            matrix[band, :, columns] = 0
    return matrix.reshape(BANDS * 3, schema.width).astype(np.float32)


def _bias(schema: PartSchema, seed: int) -> NDArray[np.float32]:
    """A small constant, so that grey bands still have a direction."""
    return np.random.default_rng(seed + 1).normal(0, 0.02, schema.width).astype(np.float32)


def _share(schema: PartSchema) -> NDArray[np.float32]:
    share = np.zeros((BANDS, len(schema)), np.float32)
    for p, name in enumerate(schema.names):
        share[list(SEEN_BANDS[name]), p] = 1 / len(SEEN_BANDS[name])
    return share


def _reference(images: NDArray[np.uint8], schema: PartSchema, seed: int) -> PartFeatures:
    """The same in NumPy: the golden samples do not come from the runtime that they judge."""
    colours = (images.astype(np.float32) / 255).reshape(len(images), BANDS, -1, 3).mean(2)
    raw = (colours - 0.5).reshape(len(images), -1) @ _projection(schema, seed) + _bias(schema, seed)
    for columns in schema.slices:
        raw[:, columns] /= np.linalg.norm(raw[:, columns], axis=1, keepdims=True)
    bright = np.clip(4 * colours.mean(2) @ _share(schema), 0, 1)
    return PartFeatures(raw, np.maximum(bright, schema.always_visible.astype(np.float32)), schema)
