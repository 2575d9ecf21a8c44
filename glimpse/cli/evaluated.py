"""The model of `glimpse evaluate`: a bundle, or a checkpoint of `glimpse train`, which alone needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glimpse.cli.boundary import Failure
from glimpse.preprocessing import Preprocessing

if TYPE_CHECKING:
    from trainer.evaluation.features import Extractor, Points
    from trainer.evaluation.pictures import Attention
    from trainer.pose import AnnotationStore


@dataclass(frozen=True)
class EvaluatedModel:
    """What an evaluation needs of a model."""

    preprocessing: Preprocessing
    run: Extractor
    facts: Mapping[str, str]
    batch: int
    attention: Attention | None = None
    poses: AnnotationStore | None = None
    """Key-points of images, where the model is given them."""

    @property
    def points(self) -> Points | None:
        """Key-points of an image by its id and size."""
        if self.poses is None:
            return None
        from trainer.data.decoded import given_points

        size = (self.preprocessing.height, self.preprocessing.width)
        return lambda image_id, old: given_points(self.poses, image_id, old, size)


def open_model(
    path: Path, provider: str, threads: int | None, annotations: Path | None, precision: str = "auto"
) -> EvaluatedModel:
    """Opens ``path``: a folder or ``.zip`` is a bundle, any other file a checkpoint.

    Raises:
        BundleError, CheckpointError, ProviderError and the like: their messages are for the user.
        Failure: an option that does not go with such a model.
    """
    if path.is_dir() or path.suffix == ".zip" or not path.exists():
        return _bundle(path, provider, threads, annotations, precision)
    if precision != "auto":
        raise Failure(f"--precision {precision} is for bundles; a checkpoint runs in torch")
    return _checkpoint(path, provider, threads, annotations)


def _bundle(path: Path, provider: str, threads: int | None, annotations: Path | None, precision: str) -> EvaluatedModel:
    from glimpse.bundle import open_bundle
    from glimpse.runtime import open_session
    from trainer.evaluation.features import BATCH
    from trainer.evaluation.models import bundle_facts

    if annotations is not None:
        raise Failure("--annotations are for checkpoints of methods that are given key-points; a bundle takes none")
    bundle = open_bundle(path)
    session = open_session(bundle, provider, threads, precision)
    return EvaluatedModel(bundle.preprocessing, session.run, bundle_facts(bundle), BATCH)


def _checkpoint(path: Path, provider: str, threads: int | None, annotations: Path | None) -> EvaluatedModel:
    from trainer.evaluation.features import BATCH
    from trainer.evaluation.models import checkpoint_facts
    from trainer.loop.inference import Runner

    if provider != "auto":
        raise Failure(f"--provider {provider} is for bundles; a checkpoint runs in torch")
    runner = Runner.open(path, threads)
    poses, given = _given_poses(runner.method, annotations)
    return EvaluatedModel(
        runner.checkpoint.recipe.preprocessing,
        runner.features,
        checkpoint_facts(runner.checkpoint, given=given),
        BATCH if runner.device == "cpu" else 16 * BATCH,
        runner.attention if runner.has_attention else None,
        poses,
    )


def _given_poses(method: Any, annotations: Path | None) -> tuple[AnnotationStore | None, str]:
    """Key-points for a method that is given them, and what a report says of it."""
    wants = getattr(method, "pose", None) == "given"
    if annotations is None:
        return None, "key-points, but none were given: it saw the whole person everywhere" if wants else ""
    if not wants:
        raise Failure(f"--annotations are for methods that are given key-points; {type(method).__name__} takes none")
    from trainer.pose import AnnotationStore

    store = AnnotationStore(annotations)
    return store, f"key-points of every image by {store.describe}"
