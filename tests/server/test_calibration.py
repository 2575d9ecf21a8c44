"""`Match.probability`: the bundle's calibration where it holds for a search's distances, and nothing where not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from glimpse.bundle import write_bundle
from glimpse.calibration import Calibration
from glimpse.client import Client
from protos.glimpse.v1 import features_pb2, gallery_pb2, search_pb2
from tests.bundles import SCHEMA, encoded, person, tiny_bundle
from tests.glimpse.calibrations import calibration_fields
from tests.server.running import Running, random_features, wire_features

Request = search_pb2.SearchRequest


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with a calibrated model and the gallery `crowd`."""
    folder = tmp_path_factory.mktemp("calibrated")
    plain = tiny_bundle(folder / "plain")
    manifest = plain.manifest.model_dump(mode="json", by_alias=True, exclude={"files"})
    fields = calibration_fields(SCHEMA, plain.identity.sha256)
    bundle = write_bundle(folder / "model", {**manifest, "calibration": fields}, plain.contents)
    with Running(folder / "data", bundle.source) as running:
        running.gallery("crowd")
        running.crowd("crowd", 12)
        yield running


def expected(server: Running, matches: Sequence[search_pb2.Match]) -> np.ndarray:
    calibration = server.application.floor.bundle.manifest.calibration
    assert isinstance(calibration, Calibration)
    return calibration.probability([m.distance for m in matches], [m.joint_visibility for m in matches])


def test_every_match_has_the_probability_of_its_distance_and_evidence(calibrated: Running) -> None:
    image = encoded(person(5, hidden=("head",)))
    matches = calibrated.search.Search(Request(gallery="crowd", query_image=image, top_k=24)).matches
    assert len(matches) == 24
    found = np.array([match.probability for match in matches])
    np.testing.assert_allclose(found, expected(calibrated, matches), atol=1e-6)
    assert found[0] > 0.5 > found[-1]


def test_pages_and_streams_have_it_too(calibrated: Running) -> None:
    request = Request(gallery="crowd", item_id="3-0")
    for answers in (calibrated.search.SearchAll(request), calibrated.search.SearchStream(iter([request]))):
        matches = [match for answer in answers for match in answer.matches]
        assert all(match.HasField("probability") for match in matches)
        np.testing.assert_allclose([m.probability for m in matches], expected(calibrated, matches), atol=1e-6)


def test_the_client_reads_it(calibrated: Running) -> None:
    with Client(calibrated.address) as glimpse:
        best = glimpse.search("crowd", encoded(person(2)), top_k=1)[0]
        assert best.probability is not None
        assert 0.5 < best.probability <= 1


def test_without_a_calibration_there_is_none(server: Running) -> None:
    matches = server.search.Search(Request(gallery="crowd", item_id="3-0")).matches
    assert len(matches) == 10
    assert not any(match.HasField("probability") for match in matches)


def test_an_incomparable_item_has_none(calibrated: Running) -> None:
    image = encoded(person(4, hidden=("legs", "feet")))
    request = Request(gallery="crowd", query_image=image, top_k=24, min_joint_visibility=0.9, include_incomparable=True)
    matches = calibrated.search.Search(request).matches
    assert len(matches) == 24
    assert not any(match.HasField("distance") or match.HasField("probability") for match in matches)


def test_a_callers_own_weights_are_another_distance(calibrated: Running) -> None:
    request = Request(gallery="crowd", item_id="3-0", part_weights={"upper": 1.0})
    matches = calibrated.search.Search(request).matches
    assert all(match.HasField("distance") for match in matches)
    assert not any(match.HasField("probability") for match in matches)


def test_a_gallery_of_features_with_other_weights_or_of_no_model_has_none(calibrated: Running) -> None:
    parts = [features_pb2.Part(name=part.name, dim=part.dim, weight=2.0) for part in SCHEMA.parts]
    schema = features_pb2.PartSchema(parts=parts, prior=0.1)
    calibrated.galleries.CreateGallery(gallery_pb2.CreateGalleryRequest(gallery="others", schema=schema))
    features = random_features(SCHEMA, 3, hide=0)
    items = [gallery_pb2.Item(item_id=str(row), features=wire_features(features[row : row + 1])) for row in range(3)]
    assert all(result.status.code == 0 for result in calibrated.upsert("others", items).results)
    matches = calibrated.search.Search(Request(gallery="others", features=wire_features(features[:1]))).matches
    assert len(matches) == 3
    assert not any(match.HasField("probability") for match in matches)
