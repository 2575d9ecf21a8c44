"""One thread for work that no caller waits for: sealing lists, sampling recall."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

_log = logging.getLogger(__name__)


class Background:
    """A queue of tasks and the one thread that runs them; a task that fails is logged."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="glimpse-galleries")

    def submit(self, task: Callable[[], None]) -> bool:
        """Queues the task; False when closed."""
        try:
            self._executor.submit(task).add_done_callback(_report)
        except RuntimeError:  # shut down: the server is stopping
            return False
        return True

    def drain(self) -> None:
        """Waits until everything queued so far is done."""
        self._executor.submit(lambda: None).result()

    def close(self) -> None:
        """Drops what is queued and waits for the task that runs."""
        self._executor.shutdown(wait=True, cancel_futures=True)


def _report(future: Future[None]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        _log.error("a background task failed", exc_info=error)
