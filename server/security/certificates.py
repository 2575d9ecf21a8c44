"""TLS files of the server: checked at the start, and read again when they change, so that no restart is needed."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Any

import grpc

from server.settings import ConfigurationError

_log = logging.getLogger("glimpse.security")


class CertificateFiles:
    """The certificate, the key and, with mutual TLS, the authority of the clients.

    gRPC asks before every handshake: a new connection gets what the files hold then; open ones keep what they began
    with. Files that do not belong together, as between the two writes of a renewal, are left alone with a warning.
    """

    def __init__(self, certificate: Path, key: Path, authority: Path | None) -> None:
        self._files = {"tls_cert": certificate, "tls_key": key}
        if authority is not None:
            self._files["client_ca"] = authority
        self._stamps: tuple[tuple[int, int, int], ...] = ()

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials that follow the files. ConfigurationError if these cannot be used."""
        self._stamps = self._look()
        first = self._load()
        fetch: Any = self.changed  # the stubs do not know that None means no change
        return grpc.dynamic_ssl_server_credentials(first, fetch, "client_ca" in self._files)

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """What new connections get from now on; None for what they got before. Never raises: gRPC calls it."""
        try:
            stamps = self._look()
            if stamps == self._stamps:
                return None
            loaded = self._load()
            if stamps != self._look():  # written just now: at the next connection
                return None
        except ConfigurationError as error:
            _log.warning("the TLS files have changed and cannot be used; the ones before are used on: %s", error)
            return None
        self._stamps = stamps
        _log.info("the TLS files have changed and are used for new connections")
        return loaded

    def _look(self) -> tuple[tuple[int, int, int], ...]:
        stamps = []
        for name, path in self._files.items():
            try:
                found = path.stat()
            except OSError as error:
                raise _unreadable(name, path, error) from error
            stamps.append((found.st_ino, found.st_mtime_ns, found.st_size))
        return tuple(stamps)

    def _load(self) -> grpc.ServerCertificateConfiguration:
        certificate, key = (_read(name, self._files[name]) for name in ("tls_cert", "tls_key"))
        try:
            # gRPC says nothing when a certificate and key do not belong together; it never completes a handshake.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._files["tls_cert"], self._files["tls_key"])
        except (ssl.SSLError, OSError) as error:
            raise ConfigurationError(f"tls_cert and tls_key are not a matching PEM pair: {error}") from error
        authority = None
        if "client_ca" in self._files:
            authority = _read("client_ca", self._files["client_ca"])
            try:
                ssl.create_default_context(cadata=authority.decode("ascii"))
            except (ssl.SSLError, UnicodeDecodeError) as error:
                raise ConfigurationError(f"client_ca holds no PEM certificate: {error}") from error
        return grpc.ssl_server_certificate_configuration([(key, certificate)], authority)


def _read(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(name, path, error) from error


def _unreadable(name: str, path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"{name} {path} cannot be read: {error.strerror}")
