"""`glimpse serve`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

MODEL, NETWORK, ACCESS, TUNING, LIMITS, LOGS = "Model", "Network", "Access", "Tuning", "Limits", "Logs"


def serve(
    data: Annotated[Path | None, typer.Option(help="Folder of the galleries; made if it is missing.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="The bundle: a folder or .zip. Default: the one that comes with Glimpse.")
    ] = None,
    provider: Annotated[
        str | None, typer.Option(help="auto, or a provider that must then really run.", rich_help_panel=MODEL)
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="float32, float16 or int8; auto: the bundle's default.", rich_help_panel=MODEL),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads of one inference; 0: the cores at hand.", rich_help_panel=MODEL)
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="Default 127.0.0.1:50051; port 0 is a free one.", rich_help_panel=NETWORK
        ),
    ] = None,
    metrics_listen: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="/metrics; default 127.0.0.1:9090.", rich_help_panel=NETWORK),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(help="PEM certificate chain of the server.", rich_help_panel=NETWORK)
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(help="PEM private key of the server.", rich_help_panel=NETWORK)
    ] = None,
    client_ca: Annotated[
        Path | None, typer.Option(help="PEM file; every client needs a certificate it signed.", rich_help_panel=NETWORK)
    ] = None,
    insecure: Annotated[
        bool | None, typer.Option("--insecure", help="Serve plaintext beyond loopback.", rich_help_panel=NETWORK)
    ] = None,
    auth: Annotated[
        str | None,
        typer.Option(
            help="off, token or mtls; auto: tokens or certificates, once there is one.", rich_help_panel=ACCESS
        ),
    ] = None,
    audit: Annotated[
        str | None,
        typer.Option(help="batched, strict (answers wait for their row) or off.", rich_help_panel=ACCESS),
    ] = None,
    audit_days: Annotated[
        float | None, typer.Option(help="Days that sealed audit rows are kept; 0: for ever.", rich_help_panel=ACCESS)
    ] = None,
    reflection: Annotated[
        bool | None, typer.Option(help="Offer gRPC server reflection.", rich_help_panel=NETWORK)
    ] = None,
    max_batch: Annotated[
        int | None, typer.Option(help="Images in one run of the model; 0: measured.", rich_help_panel=TUNING)
    ] = None,
    batch_delay: Annotated[
        float | None, typer.Option(help="Seconds that a batch waits to fill; 0 is best.", rich_help_panel=TUNING)
    ] = None,
    queue_limit: Annotated[
        int | None,
        typer.Option(help="Images of one client that may wait; of all twice as many.", rich_help_panel=LIMITS),
    ] = None,
    model_patience: Annotated[
        float | None,
        typer.Option(help="Seconds one batch may take before the model counts as hung.", rich_help_panel=LIMITS),
    ] = None,
    stream_idle_seconds: Annotated[
        float | None, typer.Option(help="Seconds a stream may be silent before it is ended.", rich_help_panel=LIMITS)
    ] = None,
    send_seconds: Annotated[
        float | None,
        typer.Option(help="Seconds a caller may leave an answer of a stream unread.", rich_help_panel=LIMITS),
    ] = None,
    disk_quota: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="What the data folder may take, as 20GiB; writes stop above.", rich_help_panel=LIMITS
        ),
    ] = None,
    memory_limit: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="What the process may take; default 90 % of its container.", rich_help_panel=LIMITS
        ),
    ] = None,
    decode_workers: Annotated[
        int | None, typer.Option(help="Threads that decode images; 0: the cores at hand.", rich_help_panel=TUNING)
    ] = None,
    search_workers: Annotated[
        int | None, typer.Option(help="Threads that search; 0: the cores at hand.", rich_help_panel=TUNING)
    ] = None,
    search_threads: Annotated[
        int | None,
        typer.Option(help="Threads that share a search of a large gallery; 0: the cores.", rich_help_panel=TUNING),
    ] = None,
    recall_every: Annotated[
        int | None,
        typer.Option(help="One in so many fast searches is checked by an exact one; 0: none.", rich_help_panel=TUNING),
    ] = None,
    drain_seconds: Annotated[
        float | None, typer.Option(help="Time for accepted requests to finish at the end.", rich_help_panel=TUNING)
    ] = None,
    otlp_endpoint: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="OTLP collector of traces; default: no traces.", rich_help_panel=LOGS),
    ] = None,
    trace_share: Annotated[
        float | None,
        typer.Option(help="Share of the calls that are traced, if callers do not say.", rich_help_panel=LOGS),
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.", rich_help_panel=LOGS)] = None,
    log_format: Annotated[str | None, typer.Option(help="plain or json.", rich_help_panel=LOGS)] = None,
) -> None:
    """Serve galleries over gRPC until SIGTERM or Ctrl-C.

    Every option can also come from the environment: --max-batch is GLIMPSE_MAX_BATCH.

    Example: glimpse serve --data ./galleries --listen 127.0.0.1:50051
    """
    given = {name: value for name, value in locals().items() if value is not None}
    # One thread each: the model's own pool has the cores, and idle BLAS threads would spin beside it.
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    from pydantic import ValidationError

    from server.application import serve as run
    from server.settings import ServerSettings

    try:
        settings = ServerSettings(**given)
    except ValidationError as error:
        raise typer.BadParameter(
            "; ".join(_sentence(problem["loc"], problem["msg"]) for problem in error.errors())
        ) from None
    raise typer.Exit(run(settings))


def _sentence(location: tuple[int | str, ...], message: str) -> str:
    message = message.removeprefix("Value error, ")
    return f"--{'-'.join(map(str, location)).replace('_', '-')}: {message}" if location else message
