"""Failures: what is raised, what is repeated, and for how long."""

from __future__ import annotations

import pickle
import socket
import time

import pytest

from glimpse.client import Client, DeadlineExceeded, GlimpseError, NotFound, ResourceExhausted, Unavailable
from glimpse.client.channel import ATTEMPTS
from tests.client.fake_server import FakeServer, status

UNAVAILABLE, RESOURCE_EXHAUSTED, INTERNAL = 14, 8, 13


def test_a_refusal_carries_the_servers_own_sentence(client: Client) -> None:
    with pytest.raises(NotFound) as caught:
        client.search("attic", b"x")
    assert caught.value.code == "NOT_FOUND"
    assert caught.value.message == "no gallery 'attic'; there are ['lobby']"
    assert str(caught.value) == caught.value.message


def test_a_full_queue_is_tried_again_when_the_server_says_when(client: Client, server: FakeServer) -> None:
    server.failures.append(status(RESOURCE_EXHAUSTED, "queue full", retry_after=0.05))
    begin = time.monotonic()
    client.search("lobby", b"x")
    assert time.monotonic() - begin >= 0.05
    assert len(server.requests) == 2


def test_an_exhausted_resource_without_a_hint_is_not_tried_again(client: Client, server: FakeServer) -> None:
    server.failures.append(status(RESOURCE_EXHAUSTED, "message too large"))
    with pytest.raises(ResourceExhausted, match="message too large") as caught:
        client.search("lobby", b"x")
    assert caught.value.retry_after is None
    assert len(server.requests) == 1


def test_retries_are_bounded_and_the_last_error_says_when_to_come_back(client: Client, server: FakeServer) -> None:
    server.failures += [status(RESOURCE_EXHAUSTED, "queue full", retry_after=0.01)] * 10
    with pytest.raises(ResourceExhausted) as caught:
        client.search("lobby", b"x")
    assert caught.value.retry_after == pytest.approx(0.01)
    assert len(server.requests) == ATTEMPTS


def test_a_wait_beyond_the_timeout_is_not_begun(client: Client, server: FakeServer) -> None:
    server.failures.append(status(RESOURCE_EXHAUSTED, "queue full", retry_after=3600))
    with pytest.raises(ResourceExhausted):
        client.search("lobby", b"x", timeout=5)
    assert len(server.requests) == 1


def test_calls_that_must_not_happen_twice_are_not_repeated(client: Client, server: FakeServer) -> None:
    server.failures += [status(UNAVAILABLE, "draining")] * 3
    with pytest.raises(Unavailable):
        client.create_gallery("yard")
    with pytest.raises(Unavailable):
        client.delete_gallery("lobby")
    with pytest.raises(Unavailable):
        client.delete_items("lobby", ["i0"])
    assert len(server.requests) == 3


def test_other_errors_are_not_repeated(client: Client, server: FakeServer) -> None:
    server.failures.append(status(INTERNAL, "a bug"))
    with pytest.raises(GlimpseError, match="a bug") as caught:
        client.model()
    assert caught.value.code == "INTERNAL"
    assert len(server.requests) == 1


def test_an_address_without_a_server_is_named() -> None:
    with socket.socket() as taken:  # bound but not listening: nobody else gets the port
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with Client(address) as client, pytest.raises(Unavailable, match=f"no Glimpse server answers at {address}"):
            client.galleries(timeout=0.3)


def test_a_server_that_does_not_answer_in_time_is_a_deadline_error(client: Client, server: FakeServer) -> None:
    server.release.clear()
    with pytest.raises(DeadlineExceeded, match="within the timeout"):
        list(client.upsert("lobby", [], timeout=0.1))


def test_a_client_certificate_needs_its_key() -> None:
    with pytest.raises(ValueError, match="both cert and key"):
        Client("localhost:1", cert="cert.pem")


def test_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(NotFound("NOT_FOUND", "no gallery", 1.5)))
    assert isinstance(error, NotFound)
    assert (error.code, error.message, error.retry_after) == ("NOT_FOUND", "no gallery", 1.5)
