"""Who may connect, and how: plaintext stays on loopback, everything else needs TLS."""

from __future__ import annotations

import ipaddress
import logging

import grpc

from server.security.certificates import CertificateFiles
from server.settings import ConfigurationError, ServerSettings, join_address, split_address

RECEIVE_LIMIT = (32 << 20) + (64 << 10)
"""Bytes of one message: the 32 MiB of an `Upsert` batch and a little framing. gRPC has one limit a server; the tighter
ones of other methods are checked in `server.parsing`."""
METADATA_LIMIT = 16 << 10

_log = logging.getLogger(__name__)


def channel_options() -> list[tuple[str, int]]:
    """Options of the gRPC server."""
    return [
        ("grpc.max_receive_message_length", RECEIVE_LIMIT),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", METADATA_LIMIT),
        ("grpc.absolute_max_metadata_size", 2 * METADATA_LIMIT),
        # Without this a second server on the same port starts happily and gets half of the calls.
        ("grpc.so_reuseport", 0),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ]


def open_port(server: grpc.aio.Server, settings: ServerSettings, *, asks: bool) -> int:
    """Binds the server as the settings say; returns the port.

    Args:
        asks: callers need credentials; else the log warns when others than this machine can call.

    Raises:
        ConfigurationError: plaintext beyond loopback, unreadable TLS files, or an address that cannot be bound.
    """
    credentials = _credentials(settings)
    host, port = split_address(settings.listen)
    if credentials is None and not is_loopback(host):
        if not settings.insecure:
            raise ConfigurationError(
                f"refusing to serve plaintext on {settings.listen}, which others can reach: give --tls-cert and "
                "--tls-key, listen on 127.0.0.1, or say --insecure"
            )
        _log.warning("serving plaintext on %s: anyone on the way can read and change what is sent", settings.listen)
    if not asks and not is_loopback(host) and settings.client_ca is None:
        _log.warning(
            "anyone who reaches %s may search, change and delete everything: make a token with `glimpse token create`",
            settings.listen,
        )
    try:
        if credentials is None:
            return server.add_insecure_port(join_address(host, port))
        return server.add_secure_port(join_address(host, port), credentials)
    except RuntimeError as error:
        raise ConfigurationError(f"cannot listen on {settings.listen}: it is in use or not of this machine") from error


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address. A name other than ``localhost`` counts as reachable."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _credentials(settings: ServerSettings) -> grpc.ServerCredentials | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return CertificateFiles(settings.tls_cert, settings.tls_key, settings.client_ca).credentials()
