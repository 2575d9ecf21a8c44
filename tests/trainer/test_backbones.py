"""Backbones: strides, weights, ViTs of any size with overlapping patches and camera embedding, JPM's groups."""

from __future__ import annotations

import copy

import pytest
import timm
import torch

from trainer.backbones import (
    Backbone,
    VitBackbone,
    create_backbone,
    efficientnet_lite0_weights,
    jigsaw_order,
    load_matching,
)
from trainer.backbones.patches import OverlapPatchEmbed, resample_positions
from trainer.backbones.strides import keep_last_resolution

TINY = "test_vit"  # timm's own: 64 wide, 6 blocks, patches of 16


def tiny_vit(**arguments: object) -> VitBackbone:
    backbone = create_backbone(
        TINY, [arguments.get("patch_stride", 16)], **{"pretrained": False, "size": (64, 32)} | arguments
    )
    assert isinstance(backbone, VitBackbone)
    return backbone.eval()


def pixels(count: int = 2, height: int = 64, width: int = 32) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def test_pixels_are_what_the_weights_expect() -> None:
    backbone = create_backbone("test_resnet", [32], pretrained=False)
    images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 32, 32, 3)
    out = backbone.pixels(images)
    assert out.shape == (2, 3, 32, 32)
    for channel, (mean, std) in enumerate(zip(backbone.mean, backbone.std, strict=True)):
        torch.testing.assert_close(out[0, channel, 0, 0], torch.tensor(-mean / std))
        torch.testing.assert_close(out[1, channel, 0, 0], torch.tensor((1 - mean) / std))


@pytest.mark.parametrize(
    ("name", "strides", "last_stride", "expected"),
    [
        ("resnet10t", [16], 1, [(512, 16, 8)]),
        ("resnet50d", [8, 16], 1, [(512, 32, 16), (2048, 16, 8)]),
        ("efficientnet_lite0", [8, 16], 1, [(40, 32, 16), (320, 16, 8)]),
        ("efficientnet_lite0", [16, 32], 2, [(112, 16, 8), (320, 8, 4)]),
        ("hrnet_w18_small", [4, 8, 16, 32], 2, [(128, 64, 32), (256, 32, 16), (512, 16, 8), (1024, 8, 4)]),
    ],
)
def test_maps_have_the_strides_that_were_asked_for(
    name: str, strides: list[int], last_stride: int, expected: list[tuple[int, ...]]
) -> None:
    backbone = create_backbone(name, strides, pretrained=False, last_stride=last_stride).eval()
    with torch.no_grad():
        maps = backbone(pixels(1, 256, 128))
    assert [tuple(m.shape[1:]) for m in maps] == expected
    assert backbone.strides == strides
    assert backbone.channels == [shape[0] for shape in expected]


def test_a_last_stage_without_stride_has_every_imagenet_weight() -> None:
    backbone = create_backbone("efficientnet_lite0", [16], last_stride=1)
    weights = efficientnet_lite0_weights()
    for name, tensor in backbone.network.state_dict().items():
        torch.testing.assert_close(tensor, weights[name], rtol=0, atol=0)
    assert "blocks.6.0.conv_pwl.weight" in backbone.network.state_dict()
    assert backbone.network.blocks[5][0].conv_dw.stride == (1, 1)
    assert backbone.network.blocks[5][0].conv_dw.dilation == (1, 1)


def test_the_map_without_stride_has_the_strided_map_between_its_cells() -> None:
    """A stride leaves cells out and changes nothing else."""
    strided = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 16, 16), torch.nn.Conv2d(4, 5, 1, 2))

    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = strided

        def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
            return [self.body(images)]

    network, images = Two(), pixels(1, 256, 128)
    with torch.no_grad():
        coarse = copy.deepcopy(network)(images)[0]
        keep_last_resolution(network, 32)
        fine = network(images)[0]
    assert fine.shape[2:] == (16, 8)
    torch.testing.assert_close(fine[:, :, ::2, ::2], coarse)


def test_tokens_of_a_convolutional_map_are_its_cells_and_their_mean() -> None:
    backbone = create_backbone("resnet10t", [16], pretrained=False, last_stride=1).eval()
    with torch.no_grad():
        tokens, (grid,) = backbone.tokens(pixels()), backbone(pixels())
    torch.testing.assert_close(tokens.grid, grid)
    torch.testing.assert_close(tokens.cls, grid.flatten(2).mean(2))
    torch.testing.assert_close(tokens.cells[:, 3], grid[:, :, 1, 1])  # 4 x 2 cells, row by row
    assert backbone.width == 512


@pytest.mark.parametrize(("stride", "grid"), [(16, (16, 8)), (12, (21, 10)), (11, (22, 11))])
def test_overlapping_patches_make_transreids_grids(stride: int, grid: tuple[int, int]) -> None:
    backbone = tiny_vit(size=(256, 128), patch_stride=stride)
    assert backbone.grid == grid
    assert backbone.network.pos_embed.shape[1] == grid[0] * grid[1] + backbone.network.num_prefix_tokens
    with torch.no_grad():
        tokens = backbone.tokens(pixels(1, 256, 128))
        (only,) = backbone(pixels(1, 256, 128))
    assert tokens.grid.shape == (1, backbone.width, *grid)
    torch.testing.assert_close(only, tokens.grid)


@pytest.mark.parametrize(
    "options",
    [{}, {"reg_tokens": 2}, {"reg_tokens": 2, "no_embed_class": True}, {"class_token": False, "global_pool": "avg"}],
)
def test_a_vit_of_its_native_size_is_timms(options: dict[str, object]) -> None:
    reference = timm.create_model(TINY, num_classes=0, fc_norm=False, **options).eval()
    height, width = reference.patch_embed.img_size
    backbone = tiny_vit(size=(height, width), options=options | {"fc_norm": False})
    images = pixels(2, height, width)
    with torch.no_grad():
        backbone.network.load_state_dict(reference.state_dict(), strict=False)
        expected = reference.forward_features(images)
        tokens = backbone.tokens(images)
    cells = expected[:, reference.num_prefix_tokens :]
    torch.testing.assert_close(tokens.cells, cells)
    torch.testing.assert_close(tokens.cls, expected[:, 0] if options.get("class_token", True) else cells.mean(1))


def test_a_vit_takes_images_of_another_size() -> None:
    backbone = tiny_vit(size=(64, 32))
    with torch.no_grad():
        assert backbone.tokens(pixels(1, 96, 48)).grid.shape[2:] == (6, 3)


def test_positions_are_resampled_and_those_of_the_class_token_stay() -> None:
    positions = torch.tensor([7.0, 0.0, 1.0, 2.0, 3.0]).view(1, 5, 1)  # class token, then 2 x 2
    resampled = resample_positions(positions, (2, 2), (2, 4)).flatten()
    torch.testing.assert_close(resampled[0], torch.tensor(7.0))
    torch.testing.assert_close(resampled[1:5], torch.tensor([0.0, 0.25, 0.75, 1.0]))
    torch.testing.assert_close(resampled[5:], torch.tensor([2.0, 2.25, 2.75, 3.0]))
    assert resample_positions(positions, (2, 2), (2, 2)) is positions


def test_camera_embedding_adds_its_weight_times_the_centred_row() -> None:
    backbone = tiny_vit(camera_embedding=3.0, cameras=2)
    with torch.no_grad():
        backbone.cameras.copy_(torch.stack([torch.full((64,), 1.0), torch.full((64,), 5.0)]))
    torch.testing.assert_close(
        backbone.camera_tokens(torch.tensor([1, 0])), torch.stack([torch.full((64,), 2.0), torch.full((64,), -2.0)])
    )
    seen: list[torch.Tensor] = []
    backbone.network.norm_pre.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        backbone.tokens(pixels(2), torch.tensor([1, 0]))
        backbone.tokens(pixels(2))
    torch.testing.assert_close(seen[0][0], seen[1][0] + 3.0 * 2.0)  # x + pos + w e
    torch.testing.assert_close(seen[0][1], seen[1][1] - 3.0 * 2.0)


def test_an_unseen_camera_is_no_camera_and_the_mean_one() -> None:
    backbone = tiny_vit(camera_embedding=3.0, cameras=3)
    images = pixels(1)
    with torch.no_grad():
        none = backbone.tokens(images).cls
        for camera in (-1, 3, 99):
            torch.testing.assert_close(backbone.tokens(images, torch.tensor([camera])).cls, none, rtol=0, atol=0)
        known = backbone.tokens(images, torch.tensor([0])).cls
    assert (known - none).abs().max() > 1e-3
    torch.testing.assert_close(backbone.camera_tokens(torch.arange(3)).mean(0), torch.zeros(64), atol=1e-6, rtol=0)


def test_one_camera_is_enough_for_a_camera_embedding() -> None:
    """T-MSPR's configuration for Occluded-REID fails on it."""
    with torch.no_grad():
        assert tiny_vit(camera_embedding=3.0, cameras=1).tokens(pixels(2), torch.zeros(2).long()).cls.isfinite().all()


def test_the_last_block_taken_and_run_again_gives_the_whole_vit() -> None:
    backbone = tiny_vit()
    with torch.no_grad():
        whole = backbone.tokens(pixels())
        last = backbone.take_last_block()
        before = backbone.tokens(pixels())
        cls, cells = last(before.cls, before.cells)
    torch.testing.assert_close(cls, whole.cls)
    torch.testing.assert_close(cells, whole.cells)
    assert not torch.allclose(before.cls, whole.cls)


def test_the_fresh_last_block_of_a_convolutional_network_looks_at_the_cells_it_is_given() -> None:
    last = create_backbone("resnet10t", [32], pretrained=False).take_last_block().eval()
    cells = torch.randn(2, 6, 512)
    with torch.no_grad():
        first, _ = last(torch.zeros(2, 512), cells)
        other, _ = last(torch.ones(2, 512), cells)
        fewer, _ = last(torch.zeros(2, 512), cells[:, :3])
    torch.testing.assert_close(first, other)
    assert not torch.allclose(first, fewer)


def test_jigsaw_moves_riffles_and_cuts() -> None:
    assert jigsaw_order(8, 2, shift=3, shuffle=2) == [[3, 7, 4, 0], [5, 1, 6, 2]]
    # Seven cells do not make two runs: the last one (0 after the move) stands in twice.
    assert jigsaw_order(7, 2, shift=1, shuffle=2) == [[1, 5, 2, 6], [3, 0, 4, 0]]
    # T-MSPR: 242 cells in six groups of 40; two are left over.
    groups = jigsaw_order(242, 6)
    assert [len(group) for group in groups] == [40] * 6
    assert groups[0][:4] == [5, 126, 6, 127]
    assert sorted(cell for group in jigsaw_order(128, 4) for cell in group) == list(range(128))


def test_frozen_stages_of_a_vit_are_its_embedding_and_its_first_blocks() -> None:
    backbone = tiny_vit(frozen=3)
    backbone.train()
    frozen = {name for name, parameter in backbone.named_parameters() if not parameter.requires_grad}
    assert {"network.cls_token", "network.pos_embed", "network.patch_embed.proj.weight"} <= frozen
    assert "network.blocks.1.mlp.fc1.weight" in frozen
    assert "network.blocks.2.mlp.fc1.weight" not in frozen
    assert not backbone.network.blocks[1].training
    assert backbone.network.blocks[2].training


@pytest.mark.parametrize("name", ["resnet10t", TINY])
def test_timm_options_reach_the_model(name: str) -> None:
    strides = [16] if name == TINY else [32]
    backbone: Backbone = create_backbone(name, strides, pretrained=False, options={"drop_path_rate": 0.3})
    rates = [m.drop_prob for m in backbone.modules() if type(m).__name__ == "DropPath"]
    assert rates
    assert max(rates) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("name", "strides", "arguments", "message"),
    [
        ("efficientnet_lite9", [16], {}, "unknown backbone 'efficientnet_lite9'; own names are"),
        ("efficientnet_lite0", [16, 64], {}, "has maps of stride"),
        ("efficientnet_lite0", [32], {"last_stride": 1}, r"has maps of stride \[2, 4, 8, 16, 16\]"),
        ("efficientnet_lite0", [32, 16], {}, "finest first"),
        ("efficientnet_lite0", [], {}, "finest first"),
        ("mobilenetv3_small_050", [16], {"frozen": 50}, "frozen must be at most"),
        (TINY, [16], {"frozen": 50}, "frozen must be at most"),
        ("hrnet_w18_small", [16], {"last_stride": 1}, "last_stride 1 does not fit this backbone"),
        ("resnet10t", [32], {"camera_embedding": 3.0}, "are for ViTs; 'resnet10t' is none"),
        ("resnet10t", [32], {"patch_stride": 12}, "are for ViTs; 'resnet10t' is none"),
        (TINY, [16], {"last_stride": 1}, "is for convolutional backbones"),
        (TINY, [16, 32], {}, r"has one map, of stride \[16\]; got \[16, 32\]"),
        (TINY, [20], {"patch_stride": 20}, "patch_stride must be between 1 and the patch size 16, got 20"),
        (TINY, [16], {"size": (8, 32)}, "smaller than a patch"),
    ],
)
def test_an_impossible_backbone_says_what_is_possible(
    name: str, strides: list[int], arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        create_backbone(name, strides, **{"pretrained": False} | arguments)


@pytest.mark.parametrize(("cells", "arguments"), [(3, {"groups": 4}), (8, {"groups": 2, "shift": 9})])
def test_a_jigsaw_with_more_pieces_than_cells_is_an_error(cells: int, arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{cells} cells cannot be shifted"):
        jigsaw_order(cells, **arguments)


def test_patches_keep_the_weights_they_had() -> None:
    embed = timm.create_model(TINY).patch_embed
    weight = embed.proj.weight.detach().clone()
    overlapping = OverlapPatchEmbed(embed, 12)
    torch.testing.assert_close(overlapping.proj.weight, weight)
    assert overlapping(pixels(1, 40, 28)).shape == (1, 3 * 2, 64)


def test_missing_weights_are_an_error() -> None:
    weights = efficientnet_lite0_weights()
    del weights["conv_stem.weight"]
    with pytest.raises(ValueError, match=r"lack 1 tensors of the backbone, first \['conv_stem.weight'\]"):
        load_matching(timm.create_model("tf_efficientnet_lite0"), weights)
