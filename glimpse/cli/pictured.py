"""Where the images of a picture come from: the server, if the gallery keeps images, or a local folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from glimpse.images import ImageError, crop, decode_image
from glimpse.pictures.ranking import stacked
from glimpse.preprocessing import Image

if TYPE_CHECKING:
    from glimpse.client import Client, ImageSource, Query


def query_image(glimpse: Client, gallery: str, query: Query) -> Image | None:
    """What a query looks like: the image (or its box), the images of a tracklet side by side, or the item's image."""
    if query.image is not None:
        image = _decoded(query.image)
        return crop(image, *query.box) if image is not None and query.box is not None else image
    if query.tracklet:
        images = [image for source in query.tracklet[:4] if (image := _decoded(source)) is not None]
        return stacked(images, 256) if images else None
    if query.item_id:
        return item_images(glimpse, gallery, [query.item_id], None)[0]
    return None


def item_images(glimpse: Client, gallery: str, item_ids: Sequence[str], folder: Path | None) -> list[Image | None]:
    """The images of items; None where neither ``folder`` nor the gallery has one."""
    kept = glimpse.gallery(gallery).keep_images
    images: list[Image | None] = []
    for item_id in item_ids:
        image = _from_folder(folder, item_id) if folder is not None else None
        if image is None and kept:
            data = glimpse.get_item(gallery, item_id).image
            image = None if data is None else _decoded(data)
        images.append(image)
    return images


def _from_folder(folder: Path, item_id: str) -> Image | None:
    path = (folder / item_id).resolve()
    # An item id comes from a server; it must not name files outside the folder.
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        return None
    return _decoded(path)


def _decoded(source: ImageSource) -> Image | None:
    if isinstance(source, np.ndarray):
        return source
    try:
        return decode_image(Path(source).read_bytes() if isinstance(source, (str, os.PathLike)) else source)
    except ImageError:
        return None
