"""Cores: a server on some of them, its load on the others, so that neither takes the other's time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from glimpse.cli.subserver import subserver


def split_cores() -> tuple[set[int], set[int]]:
    """(server's cores, client's cores): the last core is the client's, the rest are the server's."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise RuntimeError("this benchmark needs two cores: one for the server, one for the load")
    return set(cores[:-1]), {cores[-1]}


@contextmanager
def pinned_server(
    folder: Path, model: Path, server_cores: set[int], client_cores: set[int], arguments: Sequence[str] = ()
) -> Iterator[str]:
    """A server on ``server_cores``, this process on ``client_cores`` meanwhile; gives the address.

    It logs a line a call, as servers do.
    """
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, server_cores)  # a child inherits it
        with subserver(folder / "data", model, folder / "server.log", ("--log-level", "info", *arguments)) as address:
            os.sched_setaffinity(0, client_cores)
            yield address
    finally:
        os.sched_setaffinity(0, before)
