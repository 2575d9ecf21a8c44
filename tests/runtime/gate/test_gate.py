"""The parity gate on the tiny bundle: sound graphs pass, and each way of breaking one is caught and named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from glimpse.bundle import Bundle, BundleError
from glimpse.parts import PartFeatures
from glimpse.precision import DEFAULTS
from glimpse.preprocessing import Preprocessing
from glimpse.runtime import open_session
from glimpse.runtime.gate import FILE, Fixture, GateError, Reference, Verdict, judge, measure
from tests.bundles import SCHEMA, tiny_bundle
from tests.runtime.variants import all_visible, rewritten, shuffled_parts, wrong_mean

FIXTURE = Fixture(40)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


@pytest.fixture(scope="module")
def images(cache: Path) -> NDArray[np.uint8]:
    return FIXTURE.images(Preprocessing(height=64, width=32), cache=cache / "glimpse" / "gate")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, images: NDArray[np.uint8]) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle")
    plain = tiny_bundle(folder / "plain")
    reference = Reference.of(FIXTURE, images, open_session(plain, "cpu", 1).run(np.asarray(images)))
    return rewritten(plain, folder / "gated", {FILE: reference.to_bytes()})


def verdict_on(bundle: Bundle, graph: bytes, images: NDArray[np.uint8]) -> Verdict:
    """What the gate says of another graph; golden samples would refuse it first, so it is run without them."""
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])

    def extract(some: NDArray[np.uint8]) -> PartFeatures:
        return PartFeatures(*session.run(("vectors", "visibility"), {"images": some}), SCHEMA)

    reference = Reference.in_bundle(bundle).features
    figures = measure(extract, images, FIXTURE, reference, precision="float32", provider="cpu")
    return Verdict(figures, DEFAULTS["float32"].limits)


def test_the_graph_itself_passes(bundle: Bundle, images: NDArray[np.uint8]) -> None:
    verdict = judge(open_session(bundle, "cpu", 1))
    assert verdict.passed
    figures = verdict.figures
    assert (figures.precision, figures.provider, figures.queries, figures.gallery) == ("float32", "cpu", 40, 20)
    assert min(figures.min_cosine.values()) > 0.99999
    assert (figures.own.top1, figures.own.top10, figures.own.mAP_drop) == (1.0, 1.0, 0.0)
    assert 0.12 < figures.reference_rank1 <= 1  # chance is 0.1
    assert not any(line.startswith("!") for line in verdict.lines())


def test_shuffled_parts_are_caught_and_named(bundle: Bundle, images: NDArray[np.uint8]) -> None:
    order = np.arange(SCHEMA.width)
    head, arms = (SCHEMA.slices[SCHEMA.names.index(name)] for name in ("head", "arms"))
    order[head], order[arms] = np.arange(arms.start, arms.stop), np.arange(head.start, head.stop)
    verdict = verdict_on(bundle, shuffled_parts(bundle.graph, order.tolist()), images)
    assert not verdict.passed
    bad = {line[1:].split()[0] for line in verdict.lines() if line.startswith("!")}
    assert {"head", "arms"} <= bad
    assert not {"global", "upper", "legs", "feet"} & bad
    assert any("part 'head' has a smallest cosine of" in problem for problem in verdict.problems)


def test_visibility_forced_to_one_is_caught(bundle: Bundle, images: NDArray[np.uint8]) -> None:
    verdict = verdict_on(bundle, all_visible(bundle.graph), images)
    assert min(verdict.figures.min_cosine.values()) > 0.99999  # a comparison of embeddings would not see it
    assert any("the visibility of part 'feet' differs by" in problem for problem in verdict.problems)


def test_a_wrong_mean_is_caught(bundle: Bundle, images: NDArray[np.uint8]) -> None:
    verdict = verdict_on(bundle, wrong_mean(bundle.graph, "half", 0.2), images)
    assert any("has a smallest cosine of" in problem for problem in verdict.problems)
    assert any("the same first item in its own gallery" in problem for problem in verdict.problems)


def test_features_that_depend_on_batch_mates_are_caught(bundle: Bundle, images: NDArray[np.uint8]) -> None:
    session = open_session(bundle, "cpu", 1)

    def extract(some: NDArray[np.uint8]) -> PartFeatures:
        features = session.run(some)
        seen = features.visibility * np.float32(0.98 if len(some) > 1 else 1)
        seen[:, 0] = 1
        return PartFeatures(features.vectors, seen, SCHEMA)

    reference = Reference.in_bundle(bundle).features
    figures = measure(extract, images, FIXTURE, reference, precision="float32", provider="cpu")
    assert any("batch mates" in problem for problem in figures.problems(DEFAULTS["float32"].limits))


def test_limits_of_the_manifest_decide(bundle: Bundle, tmp_path: Path) -> None:
    entry = DEFAULTS["float32"].model_dump()
    entry["limits"]["max_batch_mate_difference"] = 0
    entry["limits"]["min_cosine"] = 1.0
    strict = rewritten(bundle, tmp_path / "strict", {}, precisions={"float32": entry})
    verdict = judge(open_session(strict, "cpu", 1))
    assert verdict.limits.min_cosine == 1.0
    assert not verdict.passed  # the reference is stored in float16


def test_fewer_queries_are_the_beginning_of_more(bundle: Bundle, images: NDArray[np.uint8]) -> None:
    figures = judge(open_session(bundle, "cpu", 1), queries=12).figures
    assert (figures.queries, figures.gallery) == (12, 6)
    np.testing.assert_array_equal(Fixture(12).images(bundle.preprocessing), images[:18])  # from the cache


def test_a_fixture_is_drawn_the_same_every_time(bundle: Bundle, images: NDArray[np.uint8], tmp_path: Path) -> None:
    again = Fixture(4).images(bundle.preprocessing, cache=tmp_path)
    np.testing.assert_array_equal(again, images[:6])
    assert [path.suffix for path in tmp_path.iterdir()] == [".npy"]


def test_more_queries_than_the_reference_has_are_refused(bundle: Bundle) -> None:
    with pytest.raises(GateError, match="has 40 queries, 400 were asked for"):
        judge(open_session(bundle, "cpu", 1), queries=400)


def test_what_a_machine_draws_otherwise_is_not_asked_about(
    bundle: Bundle, images: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = np.array(images)
    other[7] = 255 - other[7]
    monkeypatch.setattr(Fixture, "images", lambda *args, **kwargs: other)
    verdict = judge(open_session(bundle, "cpu", 1))
    assert verdict.passed
    assert verdict.left_out == 1
    assert (verdict.figures.queries, verdict.figures.gallery) == (39, 20)
    assert "1 images are left out: this machine draws them with other pixels" in verdict.lines()[1]


def test_a_machine_that_draws_many_people_otherwise_is_told_so(bundle: Bundle, images: NDArray[np.uint8]) -> None:
    other = np.array(images)
    other[7, 3, 3, 1] ^= 1
    fixture = Reference.in_bundle(bundle).fixture(other)
    assert fixture.left_out == (7,)
    assert 7 not in fixture.rows
    assert len(fixture.rows) == len(fixture.identity) == len(fixture.is_query) == 59
    assert (fixture.identity[7], fixture.is_query[7]) == (1, True)
    other[8, 3, 3, 1] ^= 1
    with pytest.raises(GateError, match="2 of 60 generated people are drawn differently here"):
        Reference.in_bundle(bundle).fixture(other)


def test_a_bundle_without_a_reference_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"has no gate\.npz, which the gate compares with: export it again"):
        judge(open_session(tiny_bundle(tmp_path / "plain"), "cpu", 1))


@pytest.mark.parametrize("damage", [lambda d: d[:-40], lambda d: b"", lambda d: d[:100] + b"\xff" * 64 + d[164:]])
def test_a_broken_reference_is_refused(bundle: Bundle, tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    broken = rewritten(bundle, tmp_path / "broken", {FILE: damage(bundle.contents[FILE])})
    with pytest.raises(GateError, match=r"gate\.npz cannot be read"):
        judge(open_session(broken, "cpu", 1))


@pytest.mark.parametrize("queries", [0, -4, 10])
def test_queries_come_in_whole_people(queries: int) -> None:
    with pytest.raises(ValueError, match=f"multiple of 4 and above 0, got {queries}"):
        Fixture(queries)
