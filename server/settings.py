"""`ServerSettings`: everything that can be set about a server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import ByteSize, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from glimpse.precision import PRECISIONS
from glimpse.runtime.providers import PROVIDERS
from glimpse.runtime.threads import available_cores

MODELS = Path(__file__).resolve().parent.parent / "models"
DEFAULT_MODEL = "glimpse-lite"
DRAWN_MODEL = "glimpse-baseline"
"""The bundle that was trained on generated people alone, for the demo and benchmarks that draw them."""


class ConfigurationError(ValueError):
    """The server cannot start as it is configured; the message is for the person who starts it."""


def default_data() -> Path:
    """``$XDG_DATA_HOME/glimpse``, or ``~/.local/share/glimpse``."""
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "glimpse"


def default_model(models: Path = MODELS, name: str = DEFAULT_MODEL) -> Path:
    """The bundle that comes with Glimpse: the one of that name, or the only one there is.

    Raises:
        ConfigurationError: there is none beside this installation, or several of other names.
    """
    found = sorted(path.parent for path in models.glob("*/manifest.json")) + sorted(models.glob("*.zip"))
    if models / name in found:
        return models / name
    if len(found) != 1:
        what = "no bundle" if not found else f"{len(found)} bundles ({', '.join(path.name for path in found)})"
        raise ConfigurationError(f"{what} in {models}; name the one to serve with --model or GLIMPSE_MODEL")
    return found[0]


class ServerSettings(BaseSettings):
    """Settings of `glimpse serve`: from flags, else from the environment (``GLIMPSE_LISTEN=...``), else the default.

    An unknown key is an error. Unknown ``GLIMPSE_`` variables are not: Kubernetes makes some by itself, from the name
    of a service.
    """

    model_config = SettingsConfigDict(env_prefix="GLIMPSE_", extra="forbid", frozen=True, env_ignore_empty=True)

    data: Path = Field(default_factory=default_data, description="Folder of the galleries; made if it is missing.")
    model: Path | None = Field(None, description="The bundle to serve, a folder or a .zip; else the one of Glimpse.")
    listen: str = Field("127.0.0.1:50051", description="HOST:PORT of gRPC; port 0 takes a free one.")
    metrics_listen: str = Field("127.0.0.1:9090", description="HOST:PORT of /metrics; port 0 takes a free one.")
    provider: str = Field("auto", description="Execution provider; another one than auto is used or refused.")
    precision: str = Field("auto", description="float32, float16 or int8; auto is the bundle's default.")
    threads: int = Field(0, ge=0, le=1024, description="Threads of one inference; 0 means the cores at hand.")
    max_batch: int = Field(0, ge=0, le=256, description="Images in one run of the model; 0 measures which is best.")
    batch_delay: float = Field(0.0, ge=0, le=1, description="Seconds a batch waits to fill; 0 has proved best.")
    queue_limit: int = Field(
        256, ge=1, le=100_000, description="Images of one client that may wait; of all together twice as many."
    )
    model_patience: float = Field(
        60.0, ge=1, le=3600, description="Seconds one batch may take; after that the model counts as hung."
    )
    stream_idle_seconds: float = Field(
        300.0, ge=1, le=86_400, description="Seconds that a stream may be silent before the server ends it."
    )
    send_seconds: float = Field(
        30.0, ge=0.1, le=3600, description="Seconds that a caller may leave an answer of a stream unread."
    )
    disk_quota: ByteSize = Field(
        ByteSize(0),
        description="What the data folder may take, such as 20GiB; 0: any amount. Writes are refused above.",
    )
    memory_limit: ByteSize = Field(
        ByteSize(0), description="What the process may take, such as 4GiB; 0: 90 % of its container. As disk_quota."
    )
    decode_workers: int = Field(0, ge=0, le=256, description="Threads that decode images; 0: the cores at hand.")
    search_workers: int = Field(0, ge=0, le=256, description="Threads that search galleries; 0: the cores at hand.")
    search_threads: int = Field(
        0, ge=0, le=256, description="Threads that share one search of a large gallery; 0: the cores at hand."
    )
    recall_every: int = Field(
        100, ge=0, description="One in so many fast searches is checked by an exact one; 0: none."
    )
    tls_cert: Path | None = Field(None, description="PEM certificate chain of the server.")
    tls_key: Path | None = Field(None, description="PEM private key of the server.")
    client_ca: Path | None = Field(None, description="PEM certificates that sign clients; every client must have one.")
    insecure: bool = Field(False, description="Serve plaintext beyond loopback.")
    auth: Literal["auto", "off", "token", "mtls"] = Field(
        "auto", description="What callers must have: auto asks for a token or certificate once there is one."
    )
    audit: Literal["batched", "strict", "off"] = Field(
        "batched", description="Whether answers wait for their row in the audit trail (strict), or it follows at once."
    )
    audit_days: float = Field(0, ge=0, description="Days that sealed rows of the audit trail are kept; 0: for ever.")
    drain_seconds: float = Field(30.0, ge=0, le=3600, description="Time for accepted requests to finish at the end.")
    reflection: bool = Field(True, description="Offer gRPC server reflection.")
    otlp_endpoint: str = Field("", description="HOST:PORT or URL of an OTLP collector of traces; empty: no traces.")
    trace_share: float = Field(
        1.0, ge=0, le=1, description="Share of the calls that are traced, if callers do not say."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe line logged.")
    log_format: Literal["plain", "json"] = Field("plain", description="One line a call, for people or for machines.")

    @field_validator("provider")
    @classmethod
    def _known_provider(cls, provider: str) -> str:
        if provider != "auto" and provider not in PROVIDERS:
            raise ValueError(f"unknown provider {provider!r}; choose one of auto, {', '.join(PROVIDERS)}")
        return provider

    @field_validator("precision")
    @classmethod
    def _known_precision(cls, precision: str) -> str:
        if precision not in ("auto", *PRECISIONS):
            raise ValueError(f"unknown precision {precision!r}; choose one of auto, {', '.join(PRECISIONS)}")
        return precision

    @field_validator("listen", "metrics_listen")
    @classmethod
    def _is_an_address(cls, address: str) -> str:
        split_address(address)
        return address

    @model_validator(mode="after")
    def _whole_tls(self) -> ServerSettings:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("TLS needs both tls_cert and tls_key")
        if self.client_ca is not None and self.tls_cert is None:
            raise ValueError("client_ca needs tls_cert and tls_key")
        if self.auth == "mtls" and self.client_ca is None:
            raise ValueError("auth mtls needs client_ca, which signs the clients' certificates")
        return self

    @property
    def cores(self) -> int:
        return available_cores()


def split_address(address: str) -> tuple[str, int]:
    """``HOST:PORT`` or ``[IPv6]:PORT`` in two; ValueError says what is wrong."""
    host, separator, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"address {address!r}: write an IPv6 address as [address]:port")
    if not separator or not host or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise ValueError(f"address {address!r}: expected HOST:PORT with a port from 0 to 65535")
    return host, int(port)


def join_address(host: str, port: int) -> str:
    """The inverse of `split_address`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
