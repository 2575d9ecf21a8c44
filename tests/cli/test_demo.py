"""The demo: its people, its comparison, and the whole of it against a real server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import Result

from glimpse.cli.boundary import Failure
from glimpse.cli.crowd import Crowd
from glimpse.cli.subserver import subserver
from glimpse.cli.weighting import Scores, Trial, ignoring_visibility, paired_gain
from glimpse.client import Client, Match, SearchResult, Timings, Unavailable
from glimpse.images import decode_image
from glimpse.parts import Part, PartFeatures, PartSchema


def test_the_gallery_has_every_person_at_every_camera_and_queries_exclude_their_own() -> None:
    crowd = Crowd(identities=3, cameras=2, seed=5)
    items = list(crowd.items())
    assert len(items) == len(crowd) == 6
    assert {(item.person_id, item.camera_id) for item in items} == {
        (f"{person:04d}", f"c{camera}") for person in range(3) for camera in (1, 2)
    }
    trials = list(crowd.trials())
    assert [trial.person_id for trial in trials] == ["0000", "0001", "0002"]
    for trial in trials:
        assert trial.filter is not None
        (excluded,) = trial.filter.exclude
        assert list(excluded.person_ids) == [trial.person_id]
        assert len(excluded.camera_ids) == 1
        assert int(trial.label.split()[-2].rstrip("%")) >= 50
        assert decode_image(trial.data).shape == (256, 128, 3)


def test_the_same_seed_gives_the_same_people() -> None:
    first, second = (list(Crowd(2, 2, seed=5).items()) for _ in range(2))
    assert [item.image for item in first] == [item.image for item in second]
    assert [item.image for item in Crowd(2, 2, seed=6).items()] != [item.image for item in first]


def test_ignoring_visibility_keeps_the_vectors_and_sees_all_that_has_a_vector() -> None:
    schema = PartSchema((Part("global", 2, always_visible=True), Part("head", 2), Part("legs", 2)))
    vectors = np.array([[1, 0, 0, 1, 0, 0]], np.float32)
    features = PartFeatures(vectors, np.array([[1, 0.2, 0]], np.float32), schema)
    ignoring = ignoring_visibility(features)
    assert np.array_equal(ignoring.vectors, vectors)
    assert ignoring.visibility.tolist() == [[1, 1, 0]]


def test_a_clear_gain_is_beyond_noise_and_a_coin_toss_is_not() -> None:
    clear = paired_gain([True] * 80 + [False] * 20, [True] * 50 + [False] * 50)
    assert clear.points == pytest.approx(30)
    assert clear.low > 20
    assert clear.high < 40
    assert clear.beyond_noise
    toss = paired_gain([True, False] * 50, [False, True] * 50)
    assert toss.points == 0
    assert not toss.beyond_noise
    assert not paired_gain([True] * 10, [True] * 10).beyond_noise


def test_scores_count_first_places_and_average_precision() -> None:
    def ranking(*people: str) -> SearchResult:
        matches = tuple(Match(p, p, 0.1, 1, None, "", None, {}, ()) for p in people)
        return SearchResult(matches, {}, None, True, 1, Timings(0, 0, 0, 0, 0, 0))

    scores = Scores()
    scores.add(Trial("", b"", "a"), ranking("a", "b", "a"))
    scores.add(Trial("", b"", "a"), ranking("b", "a", "c"))
    scores.add(Trial("", b"", "b", item_id="b"), ranking("b", "a", "c"))
    assert scores.hits == [True, False, True]
    assert scores.mean_average_precision == pytest.approx(((1 + 2 / 3) / 2 + 1 / 2 + 1) / 3)


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(Failure, match=r"could not start(.|\n)*no such bundle"),
        subserver(tmp_path / "data", tmp_path / "nothing", tmp_path / "log"),
    ):
        pass


def test_a_subserver_is_stopped_at_the_end_even_after_a_failure(tmp_path: Path, bundle: Path) -> None:
    addresses = []

    def fail() -> None:
        with subserver(tmp_path / "data", bundle, tmp_path / "log") as address, Client(address) as client:
            addresses.append(address)
            assert client.health() == "SERVING"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with Client(addresses[0]) as client, pytest.raises(Unavailable, match="no Glimpse server answers"):
        client.health(timeout=0.3)


def test_the_demo_indexes_and_searches_a_folder_of_crops(
    glimpse: Callable[..., Result], bundle: Path, crops: Path, tmp_path: Path
) -> None:
    (crops / "broken.jpg").write_bytes(b"\xff\xd8\xff not a jpeg")
    target = tmp_path / "result.png"
    result = glimpse("demo", "--images", crops, "--model", bundle, "--save", target)
    assert result.exit_code == 0, result.stderr
    told = " ".join(result.stdout.split())  # the console breaks lines where the folder's name ends
    assert "indexed 10 images" in told
    assert "1 refused" in told
    assert "the server stopped cleanly" in result.stdout
    # The query is left out of its own results, so the other view of the person is first.
    ranked = [line.split() for line in result.stdout.splitlines() if line.startswith("1 ")]
    assert ranked[0][1] == "0000_c2s1_000000_00.png"
    assert cv2.imread(str(target)) is not None


def test_the_demo_fails_when_weighting_does_not_win(
    glimpse: Callable[..., Result], bundle: Path, tmp_path: Path
) -> None:
    # Brightness is this bundle's visibility, and generated people are bright: it sees everything always.
    target = tmp_path / "result.png"
    result = glimpse("demo", "--identities", "20", "--model", bundle, "--save", target)
    assert result.exit_code == 1
    assert "did not win beyond noise" in result.stderr
    assert "20 queries" in " ".join(result.stdout.split())
    assert cv2.imread(str(target)) is not None


def test_a_folder_without_usable_images_is_a_failure(
    glimpse: Callable[..., Result], bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    result = glimpse("demo", "--images", tmp_path / "empty", "--model", bundle, "--save", tmp_path / "r.png")
    assert result.exit_code == 1
    assert "fewer than two images" in result.stderr
