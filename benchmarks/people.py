"""How hard the generated people are: what needs no training must fail on them, and the evidence must still be there.

Protocol: identities of the test wardrobe (clothes, places and occluders that training never shows), three clean
gallery views each, one query each from another camera, at least half hidden. Query and gallery cameras are the same
set, so that a background is never a hint in favour. Same person and same camera are left out.

Peers: HSV histograms of six stripes (the classic hand-made descriptor), untrained ImageNet features, the model that
comes with Glimpse, and a reference that knows each part's true mask and compares plain colour histograms part by part:
it shows that what remains visible tells people apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Report, Row
from glimpse.bundle import open_bundle
from glimpse.distance import pairwise
from glimpse.metrics import RankingMetrics
from glimpse.parts import Part, PartFeatures, PartSchema
from glimpse.people import PARTS, PeopleGenerator, PersonView
from glimpse.runtime import open_session
from server.settings import DRAWN_MODEL, default_model

IDENTITIES, QUICK_IDENTITIES = 300, 100
CAMERAS = 6
GALLERY_VIEWS = 3
OCCLUSION = (0.5, 0.7)
SEED = 4
STRIPES = 6
TIMED_VIEWS = 120

Float32 = NDArray[np.float32]


def run(quick: bool) -> Report:
    """Rank-1 of each peer and the cost of a view; ``quick`` takes fewer identities, which flatters every Rank-1."""
    identities = QUICK_IDENTITIES if quick else IDENTITIES
    generator = PeopleGenerator(SEED, wardrobe="test")
    queries, gallery = list(query_views(generator, identities)), list(gallery_views(generator, identities))
    clean = [generator.view(view.identity, view.camera, view.shot) for view in queries]
    report = Report("people")
    about = f"{identities} identities, {len(gallery)} gallery views, {OCCLUSION[0]:.0%} to {OCCLUSION[1]:.0%} hidden"
    for name, describe, goal in (
        ("hsv_stripes", hsv_stripes, "< 0.35"),
        ("imagenet", imagenet_features(), "< 0.35"),
    ):
        known = describe([view.image for view in gallery])
        hidden = describe([view.image for view in queries])
        whole = describe([view.image for view in clean])
        report.add(Row(f"{name}_rank1_occluded", rank1(1 - hidden @ known.T, queries, gallery), "share", goal, about))
        report.add(Row(f"{name}_rank1_whole", rank1(1 - whole @ known.T, clean, gallery), "share"))
    known, hidden = trained_features([view.image for view in gallery], [view.image for view in queries])
    trained = rank1(pairwise(hidden, known).distance, queries, gallery)
    report.add(Row("embedded_model_rank1_occluded", trained, "share", ">= 0.7", "trained on other people and clothes"))
    known_parts = true_part_colours(gallery)
    distance = pairwise(true_part_colours(queries), known_parts).distance
    report.add(Row("true_masks_rank1_occluded", rank1(distance, queries, gallery), "share", None, "knows the masks"))
    for part in ("upper", "legs"):
        twins = look_alikes(generator, identities, part)
        report.add(Row(f"{part}_look_alikes", twins, "share", "< 0.1", "identities whose attributes another shares"))
    views = TIMED_VIEWS // 4 if quick else TIMED_VIEWS
    rng = np.random.default_rng(0)
    report.add(Row("clean_view", _milliseconds(lambda i: generator.view(i, i % CAMERAS, 9), views), "ms"))
    report.add(Row("occluded_view", _milliseconds(lambda i: generator.view(i, i % CAMERAS, 9, OCCLUSION), views), "ms"))
    report.add(Row("occlude", _milliseconds(lambda i: generator.occlude(clean[i], rng, 0.3, 0.6), views), "ms"))
    return report


def query_views(generator: PeopleGenerator, identities: int) -> Iterator[PersonView]:
    """One view of each identity, at least half hidden; the identities take turns at the cameras."""
    for identity in range(identities):
        yield generator.view(identity, identity % CAMERAS, 1, OCCLUSION)


def gallery_views(generator: PeopleGenerator, identities: int) -> Iterator[PersonView]:
    """Clean views of each identity by the cameras that follow its query's."""
    for identity in range(identities):
        for step in range(1, GALLERY_VIEWS + 1):
            yield generator.view(identity, (identity + step) % CAMERAS, 0)


def rank1(distance: Float32, queries: list[PersonView], gallery: list[PersonView]) -> float:
    """Rank-1 of distances ``(Q, G)``, same person and same camera left out."""
    metrics = RankingMetrics()
    metrics.add_block(
        distance,
        [view.identity for view in queries],
        [view.identity for view in gallery],
        [view.camera for view in queries],
        [view.camera for view in gallery],
    )
    return metrics.result().rank1


def trained_features(*sets: list[NDArray[np.uint8]]) -> list[PartFeatures]:
    """What the model that Glimpse trained on generated people sees in each set of images."""
    bundle = open_bundle(default_model(name=DRAWN_MODEL))
    session = open_session(bundle)
    return [
        PartFeatures.concatenate([session.run(bundle.preprocessing(image)[None]) for image in images])
        for images in sets
    ]


def hsv_stripes(images: list[NDArray[np.uint8]]) -> Float32:
    """Square roots of normalised 8 x 8 x 4 HSV histograms of six stripes, unit rows ``(N, 6 * 256)``.

    The product of two rows is the mean Bhattacharyya coefficient of their stripes. White balance is undone first by
    the grey-world rule, and pixels are weighted towards the middle of the crop, where the person is.
    """
    rows = []
    for image in images:
        balanced = image * (image.mean() / np.maximum(image.mean(axis=(0, 1)), 1))
        hsv = cv2.cvtColor(np.clip(balanced, 0, 255).astype(np.uint8), cv2.COLOR_RGB2HSV)
        bins = (hsv[..., 0] // 23).astype(int) * 32 + (hsv[..., 1] // 32) * 4 + hsv[..., 2] // 64
        height, width = bins.shape
        weight = np.exp(-(((np.arange(width) + 0.5) / width - 0.5) ** 2) / (2 * 0.2**2))
        weights = np.broadcast_to(weight, bins.shape)
        stripes = []
        for stripe in range(STRIPES):
            band = slice(stripe * height // STRIPES, (stripe + 1) * height // STRIPES)
            counts = np.bincount(bins[band].ravel(), weights[band].ravel(), minlength=256)
            stripes.append(np.sqrt(counts / counts.sum()))
        rows.append(np.concatenate(stripes) / np.sqrt(STRIPES))
    return np.array(rows, np.float32)


def imagenet_features() -> Callable[[list[NDArray[np.uint8]]], Float32]:
    """EfficientNet-Lite0 as trained on ImageNet: its globally pooled 1280 features, unit rows."""
    from trainer.torchvision_guard import install

    install()
    import timm
    import torch

    from trainer.backbones import efficientnet_lite0_weights, load_matching

    network = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    load_matching(network, efficientnet_lite0_weights())
    mean, std = (np.array(network.pretrained_cfg[name], np.float32) for name in ("mean", "std"))

    def describe(images: list[NDArray[np.uint8]]) -> Float32:
        rows = []
        with torch.inference_mode():
            for start in range(0, len(images), 16):
                batch = (np.stack(images[start : start + 16]).astype(np.float32) / 255 - mean) / std
                rows.append(network(torch.from_numpy(batch.transpose(0, 3, 1, 2).copy())).numpy())
        features = np.concatenate(rows)
        return np.asarray(features / np.linalg.norm(features, axis=1, keepdims=True), np.float32)

    return describe


def true_part_colours(views: list[PersonView]) -> PartFeatures:
    """Colour histograms of each part's truly visible pixels, with the true visibility.

    Coarse Lab histograms of the upper and the lower half of a part, soft-binned so that a tint moves mass to the next
    bin only; no training, no texture.
    """
    names = PARTS[1:]
    width = 2 * 6 * 8 * 8
    schema = PartSchema(tuple(Part(name, width) for name in names), prior=0.3)
    vectors = np.zeros((len(views), schema.width), np.float32)
    visibility = np.zeros((len(views), len(names)), np.float32)
    for row, view in enumerate(views):
        balanced = view.image * (view.image.mean() / np.maximum(view.image.mean(axis=(0, 1)), 1))
        lab = cv2.cvtColor(np.clip(balanced, 0, 255).astype(np.uint8), cv2.COLOR_RGB2LAB)
        for part, columns in enumerate(schema.slices):
            ys, xs = np.nonzero((view.parts == part + 1) & view.visible)
            if len(ys) < 12:
                continue
            whole = np.flatnonzero((view.parts == part + 1).any(axis=1))
            middle = (whole[0] + whole[-1]) / 2
            halves = []
            for half in (ys <= middle, ys > middle):
                histogram, _ = np.histogramdd(
                    lab[ys[half], xs[half]], bins=(6, 8, 8), range=((0, 256), (88, 168), (80, 176))
                )
                soft = cv2.GaussianBlur(histogram.astype(np.float32), (3, 3), 0.7)
                soft = cv2.GaussianBlur(soft.reshape(6, 64), (1, 3), 0.6).ravel()
                halves.append(np.sqrt(soft / max(soft.sum(), 1.0)))
            vector = np.concatenate(halves)
            vectors[row, columns] = vector / max(np.linalg.norm(vector), 1e-6)
            visibility[row, part] = np.sqrt(np.clip(view.visibility[part + 1], 0.01, 1.0))
    return PartFeatures(vectors, visibility, schema)


def look_alikes(generator: PeopleGenerator, identities: int, part: str) -> float:
    """Share of identities whose named attributes of a part are those of somebody else too."""
    seen: dict[tuple[str, ...], int] = {}
    regions = [generator.appearance(identity).regions[part] for identity in range(identities)]
    for region in regions:
        seen[region] = seen.get(region, 0) + 1
    return sum(seen[region] > 1 for region in regions) / identities


def _milliseconds(make: Callable[[int], PersonView], count: int) -> float:
    """Mean CPU milliseconds of a call on one core, after the caches of places, sprites and clothes are warm."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    for index in range(count):
        make(index % QUICK_IDENTITIES)
    start = time.process_time()
    for index in range(count):
        make(index % QUICK_IDENTITIES)
    spent = time.process_time() - start
    cv2.setNumThreads(threads)
    return 1e3 * spent / count


if __name__ == "__main__":
    run(quick=False).print()
