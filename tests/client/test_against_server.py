"""The client against the real server: the values survive the way there and back, in plaintext and over TLS."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from glimpse.client import (
    AlreadyExists,
    Client,
    Filter,
    GlimpseError,
    InvalidArgument,
    Item,
    NotFound,
    Query,
    SearchResult,
    Unavailable,
)
from glimpse.distance import pairwise
from glimpse.parts import PartFeatures
from tests.bundles import encoded, person, tiny_bundle
from tests.server.certificates import make_certificate
from tests.server.running import Running

PEOPLE, CAMERAS = 6, 2


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny").source


@pytest.fixture(scope="module")
def client(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with Running(tmp_path_factory.mktemp("data"), bundle) as server, Client(server.address, timeout=20) as client:
        client.create_gallery("lobby", keep_images=True)
        assert all(result.ok for result in client.upsert("lobby", items(), batch_items=5))
        yield client


def items() -> Iterator[Item]:
    for identity in range(PEOPLE):
        for camera in range(CAMERAS):
            yield Item(
                item_id=f"p{identity}c{camera}",
                image=person(identity, shot=camera),
                person_id=str(identity),
                camera_id=f"c{camera}",
                captured_at=datetime(2026, 5, 1 + identity, tzinfo=UTC),
                attributes={"bag": identity % 2 == 0},
            )


def test_a_hidden_person_is_found_at_another_camera(client: Client) -> None:
    view = person(3, shot=9, hidden=("legs", "feet"))
    elsewhere = Filter(exclude=[Filter(person_ids=["3"], camera_ids=["c0"])])
    result = client.search("lobby", view, filter=elsewhere, explain=True)
    assert (result[0].person_id, result[0].camera_id) == ("3", "c1")
    assert result.query["legs"] == 0
    assert result[0].captured_at == datetime(2026, 5, 4, tzinfo=UTC)
    assert result[0].attributes == {"bag": False}
    shares = {part.part: part.weight for part in result[0].parts}
    assert shares["legs"] == 0
    assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
    told = 1 - sum(part.weight * part.similarity for part in result[0].parts)
    assert told == pytest.approx(result[0].distance, abs=1e-5)
    assert "p3c0" not in [match.item_id for match in result]


def test_extracted_features_search_as_the_image_does_and_as_the_oracle_says(client: Client) -> None:
    view = person(2, shot=5, hidden=("head",))
    extraction = client.extract([view])
    by_image = client.search("lobby", view, top_k=12)
    by_features = client.search("lobby", features=extraction.features, model_sha256=extraction.model.sha256, top_k=12)
    assert [match.item_id for match in by_features] == [match.item_id for match in by_image]
    schema = client.gallery("lobby").schema  # with the prior, which features on the wire may lack
    for match in by_features:
        stored = client.get_item("lobby", match.item_id).features
        assert stored is not None
        expected = pairwise(extraction.features, PartFeatures(stored.vectors, stored.visibility, schema))
        assert match.distance == pytest.approx(float(expected.distance[0, 0]), abs=1e-5)


def test_a_bad_image_fails_alone_in_extract_and_in_search_many(client: Client) -> None:
    good = encoded(person(1))
    extraction = client.extract([good, b"not an image", good])
    assert [error.index for error in extraction.errors] == [1]
    assert np.array_equal(extraction.features.vectors[0], extraction.features.vectors[2])
    answers = list(client.search_many("lobby", [good, b"", Query(item_id="p1c0", top_k=1)]))
    assert isinstance(answers[0], SearchResult)
    assert isinstance(answers[1], InvalidArgument)
    assert isinstance(answers[2], SearchResult)
    assert answers[2][0].item_id == "p1c1"


def test_search_all_ranks_the_whole_gallery(client: Client) -> None:
    ranking = list(client.search_all("lobby", person(4)))
    assert len(ranking) == PEOPLE * CAMERAS
    distances = [match.distance for match in ranking]
    assert distances == sorted(distances, key=lambda distance: distance if distance is not None else 9)
    assert ranking[0].person_id == "4"


def test_items_come_back_as_they_were_sent(client: Client) -> None:
    stored = client.get_item("lobby", "p5c1")
    assert (stored.person_id, stored.camera_id, stored.attributes) == ("5", "c1", {"bag": False})
    assert stored.image == encoded(person(5, shot=1))
    assert stored.features is not None
    listed = list(client.list_items("lobby", Filter(camera_ids=["c0"], attributes={"bag": True}), page_size=2))
    assert [item.item_id for item in listed] == ["p0c0", "p2c0", "p4c0"]


def test_updating_and_deleting_change_what_is_found(client: Client) -> None:
    client.create_gallery("yard")
    list(client.upsert("yard", items()))
    assert client.update_item("yard", "p0c0", camera_id="gate").camera_id == "gate"
    assert client.search("yard", person(0), filter=Filter(camera_ids=["gate"]))[0].item_id == "p0c0"
    assert client.delete_items("yard", filter=Filter(person_ids=["0"])) == 2
    assert "0" not in {match.person_id for match in client.search("yard", person(0))}
    assert client.delete_items("yard", ["p1c0", "nobody"]) == 1
    assert client.delete_gallery("yard") == PEOPLE * CAMERAS - 3
    with pytest.raises(NotFound, match="yard"):
        client.search("yard", person(0))


def test_refusals_are_the_servers_sentences(client: Client) -> None:
    with pytest.raises(AlreadyExists, match="lobby"):
        client.create_gallery("lobby")
    with pytest.raises(InvalidArgument, match="unknown parts"):
        client.search("lobby", person(0), part_weights={"waist": 1})
    with pytest.raises(InvalidArgument, match="top_k"):
        client.search("lobby", person(0), top_k=100_000)


def test_the_server_tells_about_itself(client: Client, bundle: Path) -> None:
    model = client.model()
    assert (model.name, model.provider) == ("tiny", "cpu")
    assert client.health() == client.health("glimpse.v1.SearchService") == "SERVING"
    stats = client.stats()
    assert stats.images > 0
    assert [gallery.live for gallery in stats.galleries if gallery.gallery == "lobby"] == [PEOPLE * CAMERAS]


def test_tls_needs_the_right_authority_and_mutual_tls_the_clients_certificate(bundle: Path, tmp_path: Path) -> None:
    authority = make_certificate("authority")
    names = {
        "ca": authority.certificate,
        "stranger": make_certificate("stranger").certificate,
    }
    for name in ("server", "client"):
        made = make_certificate(name, authority)
        names |= {name: made.certificate, f"{name}-key": made.private_key}
    files = {name: tmp_path / f"{name}.pem" for name in names}
    for name, path in files.items():
        path.write_bytes(names[name])
    tls = {"tls_cert": files["server"], "tls_key": files["server-key"], "client_ca": files["ca"]}
    with Running(tmp_path / "data", bundle, **tls) as server:
        mine = {"cert": files["client"], "key": files["client-key"]}
        with Client(server.address, ca=files["ca"], **mine) as client:
            assert client.health() == "SERVING"
        for wrong in ({"ca": files["stranger"], **mine}, {"ca": files["ca"]}, {}):
            with Client(server.address, **wrong) as client, pytest.raises(Unavailable):
                client.health(timeout=0.5)


def test_a_stopped_server_is_unavailable_and_not_a_riddle(bundle: Path, tmp_path: Path) -> None:
    with Running(tmp_path / "data", bundle) as server:
        address = server.address
    with Client(address) as client, pytest.raises(GlimpseError, match=f"no Glimpse server answers at {address}"):
        client.galleries(timeout=0.3)
