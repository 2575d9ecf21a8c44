"""Vision transformers as TransReID uses them (He et al., ICCV 2021): any image size, overlapping patches, SIE."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from trainer.backbones.blocks import LastBlock
from trainer.backbones.maps import Backbone, Tokens
from trainer.backbones.patches import OverlapPatchEmbed, resample_positions


class VitBackbone(Backbone):
    """A timm `VisionTransformer`; its one map is the grid of its last tokens.

    Args:
        network: with a patch embedding of any image size; it is changed in place.
        size: height and width of the images. Others are taken too, their positions resampled anew each time.
        patch_stride: below the patch size for overlapping patches; None for the patch size.
        camera_embedding: weight w of side information embedding; 0 for none.
        cameras: of the training set.
        frozen: see `Backbone`.

    With SIE the tokens are ``x + positions + w * (e_camera - mean of e)`` (TransReID: w = 3). The table is centred,
    so the zero embedding is that of the mean camera; and zero is what an image gets whose camera is not given, -1, or
    none of the training set. A bundle never gets cameras.
    """

    def __init__(
        self,
        network: VisionTransformer,
        *,
        size: tuple[int, int],
        patch_stride: int | None = None,
        camera_embedding: float = 0.0,
        cameras: int = 1,
        frozen: int = 0,
    ) -> None:
        native = tuple(network.patch_embed.grid_size)
        network.patch_embed = OverlapPatchEmbed(network.patch_embed, patch_stride)
        self.grid: tuple[int, int] = network.patch_embed.grid(*size)
        if network.pos_embed is not None:
            network.pos_embed = nn.Parameter(resample_positions(network.pos_embed.detach(), native, self.grid))
        network.patch_drop = nn.Identity()  # a grid with holes is no map
        for unused in ("head", "head_drop", "fc_norm", "attn_pool"):
            setattr(network, unused, nn.Identity())
        super().__init__(network, frozen, strides=[network.patch_embed.stride])
        self.camera_embedding = camera_embedding
        if camera_embedding:
            self.cameras = nn.Parameter(torch.empty(cameras, network.embed_dim))
            nn.init.trunc_normal_(self.cameras, std=0.02)

    def forward(self, pixels: Tensor, cameras: Tensor | None = None) -> list[Tensor]:
        return [self.tokens(pixels, cameras).grid]

    def tokens(self, pixels: Tensor, cameras: Tensor | None = None) -> Tokens:
        """Class token and grid after the last norm, or before the last block once `take_last_block` took it."""
        vit = self.network
        grid = vit.patch_embed.grid(*pixels.shape[2:])
        tokens = self._embed(pixels, grid)
        if self.camera_embedding and cameras is not None:
            tokens = tokens + self.camera_embedding * self.camera_tokens(cameras)[:, None]
        tokens = vit.norm(vit.blocks(vit.norm_pre(vit.pos_drop(tokens))))  # [N, prefix + hw, D]
        cells = tokens[:, vit.num_prefix_tokens :]
        cls = tokens[:, 0] if vit.cls_token is not None else cells.mean(1)
        return Tokens(cls, cells.transpose(1, 2).unflatten(2, grid))

    def camera_tokens(self, cameras: Tensor) -> Tensor:
        """``(N,)`` to ``(N, D)``: of each camera, zero for one that is not among those of the training set."""
        table = self.cameras - self.cameras.mean(0)
        known = (cameras >= 0) & (cameras < len(table))
        return table[cameras.clamp(0, len(table) - 1)] * known[:, None]

    def take_last_block(self) -> LastBlock:
        vit = self.network
        *first, last = vit.blocks.children()
        taken = LastBlock(last, vit.norm, class_token=vit.cls_token is not None)
        vit.blocks, vit.norm = nn.Sequential(*first), nn.Identity()
        return taken

    def _embed(self, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
        """Prefix tokens and cells with their positions: ``(N, prefix + hw, D)``."""
        vit = self.network
        cells = vit.patch_embed(pixels)  # [N, hw, D]
        count = cells.shape[0]  # len() would fix the batch size of an exported graph
        prefix = [token.expand(count, -1, -1) for token in (vit.cls_token, vit.reg_token) if token is not None]
        if vit.pos_embed is None:
            return torch.cat([*prefix, cells], dim=1)
        positions = resample_positions(vit.pos_embed, self.grid, grid)
        if vit.no_embed_class:
            return torch.cat([*prefix, cells + positions], dim=1)
        return torch.cat([*prefix, cells], dim=1) + positions

    def _channels(self) -> list[int]:
        return [self.network.embed_dim]

    def _stages(self) -> list[Iterable[nn.Module | nn.Parameter]]:
        vit = self.network
        stem = [vit.patch_embed, vit.cls_token, vit.reg_token, vit.pos_embed, vit.norm_pre]
        return [[part for part in stem if part is not None], *([block] for block in vit.blocks)]
