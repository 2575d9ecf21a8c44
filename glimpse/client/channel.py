"""The connection: channel options, TLS, timeouts and bounded retries of calls that may be repeated safely."""

from __future__ import annotations

import ipaddress
import os
import queue
import random
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import grpc

from glimpse.client import errors
from glimpse.client.errors import GlimpseError

MAX_MESSAGE_BYTES = 40 << 20
"""An Upsert batch is 32 MiB at most; the rest is head-room."""
ATTEMPTS = 4
FIRST_PAUSE_SECONDS = 0.1
LONGEST_WAIT = 0.1
"""Seconds until an interrupt is noticed."""

Request = TypeVar("Request")
Response = TypeVar("Response")


class Connection:
    """A gRPC channel to one server and the rules of calling it. Threads may share it.

    Args:
        address: ``host:port``.
        ca: PEM file of the certificate authority that signed the server's certificate; turns TLS on.
        cert, key: PEM files of the client's own certificate (mutual TLS); turn TLS on.
        tls: TLS with the system's authorities when no file is given.
        token: sent with every call. Over plaintext only to this machine, unless ``insecure``.
        timeout: seconds that a unary call may take, retries included.
    """

    def __init__(
        self,
        address: str,
        *,
        ca: str | os.PathLike[str] | None,
        cert: str | os.PathLike[str] | None,
        key: str | os.PathLike[str] | None,
        tls: bool,
        token: str | None,
        insecure: bool,
        timeout: float,
    ) -> None:
        encrypted = tls or ca is not None or cert is not None
        if token and not encrypted and not insecure and not _is_loopback(address):
            raise ValueError(
                f"refusing to send a token to {address} in plaintext, where others can read it: use TLS (ca or tls), "
                "or say insecure=True (GLIMPSE_INSECURE=1)"
            )
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        if (cert is None) != (key is None):
            raise ValueError("a client certificate needs both cert and key")
        self.address = address
        self.timeout = timeout
        options: list[tuple[str, int]] = [
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ]
        if _is_loopback(address):  # gRPC sends even localhost through http_proxy when that is set
            options.append(("grpc.enable_http_proxy", 0))
        if encrypted:
            credentials = grpc.ssl_channel_credentials(
                root_certificates=_read(ca), private_key=_read(key), certificate_chain=_read(cert)
            )
            self.channel = grpc.secure_channel(address, credentials, options=options)
        else:
            self.channel = grpc.insecure_channel(address, options=options)

    def unary(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        *,
        timeout: float | None,
        idempotent: bool = True,
    ) -> Response:
        """One call. An ``idempotent`` one is tried up to `ATTEMPTS` times while the server is unreachable, or full
        and says when to come back; all within ``timeout`` seconds.

        Raises:
            GlimpseError: as the server refused, or as the last attempt failed.
        """
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        attempt = 1
        while True:
            try:
                return method(request, timeout=max(0.0, deadline - time.monotonic()), metadata=self._metadata)
            except grpc.RpcError as call:
                error = errors.from_call(call, self.address)
            pause = _pause(error, attempt) if idempotent else None
            if pause is None or attempt == ATTEMPTS or time.monotonic() + pause >= deadline:
                raise error
            time.sleep(pause)
            attempt += 1

    def pages(
        self,
        method: grpc.UnaryStreamMultiCallable[Request, Response],
        request: Request,
        *,
        timeout: float | None,
    ) -> Iterator[Response]:
        """The responses of a server stream; closing the iterator early cancels the call."""
        call = method(request, timeout=timeout, metadata=self._metadata)
        try:
            yield from call
        except grpc.RpcError as error:
            raise errors.from_call(error, self.address) from None
        finally:
            call.cancel()

    def pipeline(
        self,
        method: grpc.StreamStreamMultiCallable[Request, Response],
        requests: Iterable[Request],
        *,
        window: int,
        timeout: float | None,
    ) -> Iterator[Response]:
        """The responses of a stream that answers one by one, in order, with at most ``window`` requests under way.

        ``requests`` is drawn in the caller's thread, so that its exceptions reach the caller and a slow server
        holds it back. Closing the iterator early cancels the call.
        """
        outbox: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        inbox: queue.SimpleQueue[Response | grpc.RpcError | None] = queue.SimpleQueue()
        call = method(iter(outbox.get, None), timeout=timeout, metadata=self._metadata)

        def receive() -> None:
            try:
                for response in call:
                    inbox.put(response)
                inbox.put(None)
            except grpc.RpcError as error:
                inbox.put(error)

        # The caller does not wait within gRPC: a Ctrl-C that comes while a lock is taken there leaves it taken, and the
        # channel waits for it for ever when it is closed.
        receiver = threading.Thread(target=receive, name="glimpse-responses", daemon=True)
        receiver.start()
        source = iter(requests)
        under_way = 0
        drawing = True
        try:
            while drawing or under_way:
                while drawing and under_way < window and receiver.is_alive():
                    request = next(source, None)
                    outbox.put(request)
                    if request is None:
                        drawing = False
                    else:
                        under_way += 1
                if under_way or drawing:
                    yield self._response(_next(inbox), under_way)
                    under_way -= 1
            while (end := _next(inbox)) is not None:  # the server's own end, so that it does not see a cancelled call
                self._response(end, under_way)
        finally:
            outbox.put(None)  # lets gRPC's sending thread end
            call.cancel()

    def _response(self, received: Response | grpc.RpcError | None, under_way: int) -> Response:
        if received is None:
            raise errors.error(
                "INTERNAL", f"the server at {self.address} ended the stream with {under_way} requests unanswered"
            )
        if isinstance(received, grpc.RpcError):
            raise errors.from_call(received, self.address) from None
        return received

    def close(self) -> None:
        self.channel.close()


def _next(inbox: queue.SimpleQueue[Response]) -> Response:
    """The next of a queue. An interrupt that comes just before a wait does not end it: no wait is long."""
    while True:
        with suppress(queue.Empty):
            return inbox.get(timeout=LONGEST_WAIT)


def _pause(error: GlimpseError, attempt: int) -> float | None:
    """Seconds to wait before the next attempt; None when a repeat cannot help."""
    if error.retry_after is not None and error.code in ("RESOURCE_EXHAUSTED", "UNAVAILABLE"):
        return error.retry_after
    if error.code == "UNAVAILABLE":
        return FIRST_PAUSE_SECONDS * float(2 ** (attempt - 1)) * random.uniform(0.75, 1.25)
    return None


def _is_loopback(address: str) -> bool:
    host = address.rsplit(":", 1)[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read(path: str | os.PathLike[str] | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()
