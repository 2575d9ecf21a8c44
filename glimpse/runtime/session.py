"""`Session`: a model that is ready to run, on a provider that was checked."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from glimpse.bundle import Bundle
from glimpse.parts import UNIT_NORM_TOLERANCE, Float32, PartFeatures
from glimpse.precision import Precision
from glimpse.runtime.golden import GoldenMismatch, GoldenReport, compare
from glimpse.runtime.providers import Infer, ProviderError, ProviderMissing, candidates, resolve_precision
from glimpse.runtime.threads import available_cores

_log = logging.getLogger(__name__)


class SessionError(RuntimeError):
    """The model gave something that is not part features (NaN, a wrong norm or shape)."""


class Session:
    """Images to part features. `run` is thread-safe; make one with `open_session`."""

    def __init__(
        self, bundle: Bundle, provider: str, threads: int, infer: Infer, precision: Precision = "float32"
    ) -> None:
        self.bundle = bundle
        self.provider = provider
        """``cpu``, ``cuda``, ``tensorrt`` or ``openvino``: what is in use, never ``auto``."""
        self.precision = precision
        """What is computed in, never ``auto``."""
        self.threads = threads
        self.schema = bundle.schema
        self._infer = infer
        self._shape = (bundle.preprocessing.height, bundle.preprocessing.width, 3)
        self._starts = np.array([columns.start for columns in self.schema.slices])

    def run(self, images: NDArray[np.uint8]) -> PartFeatures:
        """Part features of preprocessed RGB images, uint8 ``(N, H, W, 3)``, N >= 1.

        Raises:
            ValueError: a wrong dtype or shape.
            SessionError: the model's answer is not part features.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != self._shape or len(images) == 0:
            raise ValueError(f"expected uint8 images of shape (N, {self._shape}), got {images.dtype} {images.shape}")
        vectors, visibility = self._infer(images)
        self._check(len(images), vectors, visibility)
        return PartFeatures.trusted(vectors, visibility, self.schema)

    def warm(self, batches: Iterable[int]) -> None:
        """Runs black images in these batch sizes, so that no caller pays for first-time set-up."""
        for size in batches:
            self.run(np.zeros((size, *self._shape), np.uint8))

    def verify(self) -> GoldenReport:
        """Runs the bundle's golden images and compares; in int8 each of them also alone, with itself in the batch."""
        golden, entry = self.bundle.golden(), self.bundle.manifest.entry(self.precision)
        together = self.run(golden.images)
        report = compare(golden.features, together, entry.golden)
        if self.precision != "int8":
            return report
        alone = PartFeatures.concatenate([self.run(golden.images[row : row + 1]) for row in range(len(together))])
        moved = max(
            float(np.abs(alone.vectors - together.vectors).max(initial=0.0)),
            float(np.abs(alone.visibility - together.visibility).max(initial=0.0)),
        )
        return replace(
            report,
            batch_mate_difference=moved,
            max_batch_mate_difference=entry.limits.max_batch_mate_difference,
        )

    def _check(self, rows: int, vectors: Float32, visibility: Float32) -> None:
        """The rules of `PartFeatures` in three array operations: this runs once a batch, on the hot path."""
        schema = self.schema
        if vectors.shape != (rows, schema.width) or visibility.shape != (rows, len(schema)):
            raise SessionError(
                f"the model gave vectors {vectors.shape} and visibility {visibility.shape} for {rows} images of "
                f"parts {schema.describe()}"
            )
        squares = np.add.reduceat(vectors * vectors, self._starts, axis=1)  # [N, P]
        unit = np.abs(squares - 1) <= 2 * UNIT_NORM_TOLERANCE
        hidden = (squares == 0) & (visibility == 0)
        inside = (visibility >= 0) & (visibility <= 1)
        # A hidden part may have a unit vector; NaN fails every comparison, so it is caught here too.
        wrong = ~((unit | hidden) & inside) | (schema.always_visible & (visibility != 1))
        if wrong.any():
            row, part = (int(index[0]) for index in np.nonzero(wrong))
            raise SessionError(
                f"the model gave part {schema.names[part]!r} of image {row} the squared norm {squares[row, part]:.4g} "
                f"and visibility {visibility[row, part]:.4g}; expected a unit vector and a visibility in [0, 1]"
            )


def open_session(
    bundle: Bundle, provider: str = "auto", threads: int | None = None, precision: str = "auto"
) -> Session:
    """Opens a bundle on a provider, checks which one is really in use, and compares the golden samples.

    Args:
        bundle: from `glimpse.bundle.open_bundle`.
        provider: ``auto`` (the best that works) or a key of `PROVIDERS`, which is then the only one accepted.
        threads: threads of one inference; default: the cores this process may use.
        precision: ``auto`` (the bundle's default, usually float32) or one of `glimpse.precision.PRECISIONS`.

    Raises:
        ProviderError: the provider is unknown, missing or not really in use, or does not compute in this precision.
        BundleError: the bundle has no graph of this precision.
        GoldenMismatch: its results are too far from the golden samples, or in int8 depend on their batch mates.
        SessionError: its results are not part features at all.
    """
    threads = threads or available_cores()
    choices = candidates(provider)
    if provider == "auto" and precision != "auto":
        choices = tuple(choice for choice in choices if precision in choice.precisions) or choices[-1:]
    for choice in choices:
        try:
            number = resolve_precision(choice, bundle, precision)
            infer = choice.open(bundle, number, threads)
        except ProviderError as error:
            if choice is choices[-1]:
                raise
            # A promised GPU that does not run is worth a warning; none being there is not.
            level = logging.DEBUG if isinstance(error, ProviderMissing) else logging.WARNING
            _log.log(level, "provider passed over: %s", error)
            continue
        session = Session(bundle, choice.name, threads, infer, number)
        report = session.verify()
        if not report.passed:
            raise GoldenMismatch(
                f"{bundle.identity} in {number} on provider {choice.name!r} fails its golden samples: "
                f"{'; '.join(report.problems)}"
            )
        return session
    raise ProviderError(f"no provider to try for {provider!r}")
