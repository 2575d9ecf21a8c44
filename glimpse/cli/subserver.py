"""A server of one's own for as long as a command runs: `glimpse serve` as a child process on a free loopback port."""

from __future__ import annotations

import contextlib
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from glimpse.cli.boundary import Failure

READY = re.compile(r"glimpse is ready on (?P<address>\S+) ")
START_SECONDS = 90.0
STOP_SECONDS = 30.0
LOG_LINES = 20


@contextmanager
def subserver(data: Path, model: Path | None, log: Path, arguments: Sequence[str] = ()) -> Iterator[str]:
    """Runs `glimpse serve` over the folder ``data`` and gives its address; SIGTERM at the end.

    Raises:
        Failure: it does not get ready, or does not stop cleanly; the message quotes the end of its ``log``.
    """
    command = [sys.executable, "-m", "glimpse.cli", "serve", "--data", str(data)]
    command += ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--log-level", "warning", *arguments]
    if model is not None:
        command += ["--model", str(model)]
    with log.open("w") as errors:
        # A session of its own: Ctrl-C is ours to handle, and the server is then stopped in order.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
    assert process.stdout is not None
    try:
        yield _address(process.stdout, log)
    except BaseException:
        _stop(process)
        raise
    code = _stop(process)
    if code != 0:
        raise Failure(f"the server ended with exit code {code}{_tail(log)}")


def _address(output: IO[str], log: Path) -> str:
    """The address of the ready line."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        with contextlib.suppress(ValueError):  # closed under us at the end
            for line in output:
                lines.put(line)
        lines.put("")

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=START_SECONDS)
        except queue.Empty:
            raise Failure(f"the server did not get ready within {START_SECONDS:.0f} seconds{_tail(log)}") from None
        if not line:
            raise Failure(f"the server could not start{_tail(log)}")
        if found := READY.match(line):
            return found["address"]


def _stop(process: subprocess.Popen[str]) -> int:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()[-LOG_LINES:]
    return ":\n" + "\n".join(lines) if lines else ""
