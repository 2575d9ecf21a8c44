"""Clients beside each other: what one may hold, whose turn it is, and what is refused when too much comes."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack

import pytest

from server.errors import ResourceExhausted
from server.extraction.line import LONGEST_WAIT, WaitingLine
from server.extraction.ticket import Ticket
from server.fairness import Clients, Slots, Turns, _client, client_of, current_client


@pytest.mark.parametrize(
    ("peer", "name", "client"),
    [
        ("ipv4:10.0.0.7:51234", "", "ipv4:10.0.0.7"),
        ("ipv6:%5B::1%5D:51234", "", "ipv6:%5B::1%5D"),
        ("unix:/run/glimpse.sock", "", "unix:/run/glimpse.sock"),
        ("ipv4:10.0.0.7:51234", "token:t7", "token:t7"),
    ],
)
def test_a_client_is_its_token_or_its_address_without_the_port(peer: str, name: str, client: str) -> None:
    assert client_of(peer, name) == client


def hold(clients: Clients, stack: ExitStack, client: str, *, stream: bool = False) -> int:
    """Makes calls until one is refused; how many there are then."""
    for held in range(10_000):
        try:
            stack.enter_context(clients.call(client, stream=stream))
        except ResourceExhausted:
            return held
    raise AssertionError("nothing was refused")


def test_a_client_may_hold_as_many_calls_as_are_left_and_the_next_one_finds_room() -> None:
    clients = Clients(calls=100, streams=100)
    with ExitStack() as stack:
        assert hold(clients, stack, "flood") == 50
        assert hold(clients, stack, "other") == 25
        assert hold(clients, stack, "third") == 13
        assert clients.active == 3
    assert clients.active == 0
    with ExitStack() as stack:
        assert hold(clients, stack, "other") == 50  # what ended is free again


def test_silent_streams_leave_room_for_calls_and_for_streams_of_others() -> None:
    clients = Clients(calls=100, streams=20)
    with ExitStack() as stack:
        assert hold(clients, stack, "flood", stream=True) == 10
        assert hold(clients, stack, "other", stream=True) == 5
        assert hold(clients, stack, "flood") == 38  # 48 in all, and 47 are left


def test_full_server_says_so_whoever_asks() -> None:
    clients = Clients(calls=2)
    with (
        clients.call("a", stream=False),
        clients.call("b", stream=False),
        pytest.raises(ResourceExhausted, match="2 calls are being answered, which is the limit") as refused,
    ):
        clients.call("c", stream=False).__enter__()
    assert refused.value.retry_after


def test_the_client_is_known_inside_its_call_only() -> None:
    with Clients().call("a", stream=False):
        assert current_client() == "a"
    assert current_client() == ""


def test_turns_go_round_the_clients() -> None:
    turns: Turns[str] = Turns()
    for work in ("a1", "a2", "a3", "b1", "c1", "c2"):
        turns.append(work[0], work)
    assert [turns.take() for _ in range(len(turns))] == ["a1", "b1", "c1", "a2", "c2", "a3"]
    with pytest.raises(IndexError, match="nobody waits"):
        turns.take()


def test_newest_first_is_so_for_each_client_alone() -> None:
    turns: Turns[str] = Turns()
    for work in ("a1", "a2", "a3", "b1", "b2"):
        turns.append(work[0], work)
    assert [turns.take(newest=True) for _ in range(5)] == ["a3", "b2", "a2", "b1", "a1"]


async def as_client(client: str, slots: Slots, order: list[str]) -> None:
    _client.set(client)
    async with slots.take():
        order.append(client)
        await asyncio.sleep(0)


async def test_slots_are_given_in_turns_and_none_is_lost_to_who_left() -> None:
    slots = Slots(1)
    order: list[str] = []
    async with slots.take():
        waiting = [asyncio.create_task(as_client(client, slots, order)) for client in "aaaabbc"]
        await asyncio.sleep(0)
        waiting[1].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert order == ["a", "b", "c", "b", "a", "a"]
    async with asyncio.timeout(20), slots.take():
        pass


async def test_slot_of_one_who_leaves_on_his_turn_goes_to_the_next() -> None:
    slots = Slots(1)
    order: list[str] = []
    async with slots.take():
        first = asyncio.create_task(as_client("a", slots, order))
        second = asyncio.create_task(as_client("b", slots, order))
        await asyncio.sleep(0)
    first.cancel()  # its turn has come, but it has not run since
    await asyncio.gather(first, second, return_exceptions=True)
    assert order == ["b"]


class Line(WaitingLine):
    """A line without a thread: the test takes batches, and reads what was given up."""

    def __init__(self, *, max_batch: int = 2, limit: int = 8) -> None:
        self.given_up: list[tuple[str, str]] = []
        super().__init__(max_batch, 0.0, limit, lambda ticket, _, why: self.given_up.append((ticket.given, why)))

    def join(self, name: str, *, deadline: float | None = None, bulk: bool = False) -> Ticket:
        """An image called ``name``, of the client of its first letter."""
        self.admit(1, bulk=bulk, client=name[0], deadline=deadline)
        ticket = Ticket(asyncio.get_running_loop().create_future(), deadline, bulk, name[0])
        ticket.given = name
        assert self.put(ticket)
        return ticket

    def batch(self) -> list[str]:
        taken = self.take()
        assert taken is not None
        return [ticket.given for ticket in taken]


async def test_images_of_clients_go_in_turns_through_the_model() -> None:
    line = Line(max_batch=2)
    for name in ("a1", "a2", "a3", "a4", "b1"):
        line.join(name)
    assert [line.batch() for _ in range(3)] == [["a1", "b1"], ["a2", "a3"], ["a4"]]
    assert line.depth == 0


async def test_one_client_s_full_line_does_not_shut_out_another() -> None:
    line = Line(limit=4)
    for number in range(4):
        line.join(f"a{number}")
    with pytest.raises(ResourceExhausted, match="4 images wait for the model and 4 may: 1 more do not fit"):
        line.join("a5")
    line.join("b1")
    line.join("b2")
    with pytest.raises(ResourceExhausted, match="2 images wait for the model"):
        line.join("b3")  # two places are left of eight, and it has two
    line.join("c1")
    assert line.depth == 7


async def test_bulk_of_one_client_takes_turns_with_bulk_of_another() -> None:
    line = Line(max_batch=1)
    for name in ("a1", "a2", "a3", "b1"):
        line.join(name, bulk=True)
    assert [line.batch() for _ in range(4)] == [["a1"], ["b1"], ["a2"], ["a3"]]


async def test_image_that_would_come_too_late_is_refused_at_once_with_a_hint() -> None:
    line = Line(max_batch=1, limit=100)
    line._seconds = {1: 10.0}
    soon = time.monotonic() + 60
    for number in range(4):
        line.join(f"a{number}")
    with pytest.raises(ResourceExhausted, match="4 images go first, which takes about 50 s") as refused:
        line.join("a5", deadline=soon)
    assert refused.value.retry_after is not None
    line.join("b1", deadline=soon)  # whose turn is the second
    line.join("a6", deadline=time.monotonic() + 3600)


async def test_first_in_line_is_never_refused_for_its_deadline() -> None:
    line = Line()
    line._seconds = {1: 1000.0}  # a hiccup must not shut the door for good
    line.join("a1", deadline=time.monotonic() + 60)
    assert line.batch() == ["a1"]


async def test_newest_goes_first_from_a_refusal_until_the_line_is_short() -> None:
    line = Line(max_batch=2, limit=5)
    for number in range(5):
        line.join(f"a{number}")
    with pytest.raises(ResourceExhausted):
        line.join("a5")
    assert line.batch() == ["a4", "a3"]
    line.join("a6")
    assert line.batch() == ["a6", "a2"]
    for name in ("a7", "a8"):
        line.join(name)
    assert line.batch() == ["a0", "a1"]  # two were left: in order again


async def test_what_waits_in_vain_makes_room() -> None:
    line = Line(limit=2)
    gone = line.join("a1")
    line.join("a2")
    gone.future.cancel()
    line.join("a3")
    assert line.given_up == [("a1", "cancelled")]
    assert line.batch() == ["a2", "a3"]


async def test_nobody_waits_for_ever() -> None:
    line = Line(limit=2)
    line.join("a1").ready_at -= 2 * LONGEST_WAIT
    line.join("a2")
    assert line.batch() == ["a2"]
    assert line.given_up == [("a1", "full")]
    assert line.depth == 0


async def test_what_a_batch_takes_is_learned_by_size_and_a_hiccup_is_not_believed_at_once() -> None:
    line = Line(max_batch=2)
    line._seconds = {1: 1.0}
    line.join("a1")
    line.batch()
    line._taken_at -= 600
    line.join("a2")
    line.join("a3")
    line.batch()
    line._taken_at -= 1.5
    line.join("a4")
    line.batch()
    assert line._seconds[1] == pytest.approx(2.0, rel=0.01)
    assert line._seconds[2] == pytest.approx(1.5, rel=0.01)
    assert line._expected(5) == pytest.approx(2 * 1.5 + 2.0, rel=0.01)


async def test_size_of_batch_that_was_not_seen_yet_is_guessed_low() -> None:
    line = Line(max_batch=8)
    assert line._expected(20) == 0
    line._seconds = {1: 1.0, 4: 1.5}
    assert line._expected(16) == 3.0  # two full batches that may take no longer than four images
    assert line._expected(2) == 1.0
    line._seconds = {4: 1.5}
    assert line._expected(1) == 1.5


async def test_crowd_is_refused_before_anything_is_done_and_nobody_else() -> None:
    line = Line(limit=2)
    line.join("a1")
    line.check("a", None)
    line.join("a2")
    line.check("a", None)  # nobody was refused yet: whoever comes is looked at when they are admitted
    with pytest.raises(ResourceExhausted):
        line.join("a3")
    with pytest.raises(ResourceExhausted, match="2 images wait for the model"):
        line.check("a", None)
    line.check("b", None)
