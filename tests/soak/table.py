"""The table of trust: every row a way to hurt the server, and how to measure what it does."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.crash.damage import hurt
from tests.soak.fuzz import fuzz
from tests.soak.steady import noting, steady
from tests.soak.stopping import stop_under_load

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Effort:
    """How much of everything."""

    trials: int = 50
    images: int = 2000
    messages: int = 20_000
    manifests: int = 1000
    minutes: float = 60.0
    load: float = 0.8
    flips: int = 200
    cuts: int = 50
    stops: int = 10
    samples: Path | None = None
    """File of the samples of the steady load."""


SHORT = Effort(trials=6, images=320, messages=300, manifests=60, minutes=0.2, flips=24, cuts=4, stops=1)


@dataclass(frozen=True)
class Measured:
    """What came of a row."""

    sound: bool
    told: str


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    """By which it is asked for alone."""
    test: str
    figure: str
    measure: Callable[[Effort], Measured]
    paths: tuple[str, ...] = ()
    """The tests that hold the short form."""


def passes(*paths: str) -> Callable[[Effort], Measured]:
    """Runs tests by their paths; the row holds when all pass."""

    def measure(effort: Effort) -> Measured:
        command = [sys.executable, "-m", "pytest", "-n", "0", "-o", "addopts=-q", "-p", "no:cacheprovider", *paths]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        last = (run.stdout.strip().splitlines() or [run.stderr[-200:]])[-1]
        broken = re.findall(r"^(?:FAILED|ERROR) .*?::(\S+)", run.stdout, re.MULTILINE)
        return Measured(run.returncode == 0, "; ".join([re.sub(r"=+", "", last).strip(), *broken]))

    return measure


def kill_trials(effort: Effort) -> Measured:
    """kill -9 at random moments of everything that writes."""
    command = [sys.executable, "-m", "tests.crash.trials", "--trials", str(effort.trials)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    told = "; ".join(re.sub(r"\s{2,}", " ", line) for line in run.stdout.strip().splitlines())
    return Measured(run.returncode == 0, told or run.stderr[-300:])


def damage(effort: Effort) -> Measured:
    """Bits flipped in, and cuts of, each derived file; the tests of the formats beside it."""
    with tempfile.TemporaryDirectory(prefix="glimpse-soak-") as folder:
        done = hurt(Path(folder), effort.flips, effort.cuts)
    formats = passes("tests/server/galleries/segments", "tests/server/galleries/test_backups.py")(effort)
    return Measured(not done.wrong and formats.sound, f"{done.describe()}; formats: {formats.told}")


def malformed(effort: Effort) -> Measured:
    """Malformed and fuzzed images, messages, filters, manifests."""
    with tempfile.TemporaryDirectory(prefix="glimpse-soak-") as folder:
        harm = fuzz(Path(folder), effort.images, effort.messages, effort.manifests)
    return Measured(harm.sound, harm.describe())


def stopping(effort: Effort) -> Measured:
    """SIGTERM while clients search and store as fast as they can; the tests of a drain beside it."""
    with tempfile.TemporaryDirectory(prefix="glimpse-soak-") as folder:
        done = stop_under_load(Path(folder), effort.stops)
    drain = passes("tests/server/test_lifecycle.py")(effort)
    return Measured(done.sound and drain.sound, f"{done.describe()}; drain: {drain.told}")


def hour(effort: Effort) -> Measured:
    """Searches at a share of the best rate, with adds and erases."""
    with tempfile.TemporaryDirectory(prefix="glimpse-soak-") as folder:
        seconds = effort.minutes * 60
        tell = noting(effort.samples) if effort.samples is not None else lambda sample: None
        course = steady(Path(folder), seconds, effort.load, probe=max(4.0, min(20.0, seconds / 60)), tell=tell)
    return Measured(course.sound, f"{effort.minutes:g} min at {effort.load:.0%}: {course.describe()}")


def _row(name: str, test: str, figure: str, *paths: str, measure: Callable[[Effort], Measured] | None = None) -> Row:
    return Row(name, test, figure, measure or passes(*paths), paths)


ROWS: Sequence[Row] = (
    _row(
        "kills",
        "kill -9 at random moments of every kind of write",
        "lost 0, half-written 0, resurrected 0, restart clean",
        "tests/crash/test_trials.py",
        measure=kill_trials,
    ),
    _row(
        "faults",
        "kill at every named step of each operation",
        "old state or new state, never a mix",
        "tests/crash/test_faults.py",
        "tests/crash/test_segment_kill.py",
    ),
    _row(
        "damage",
        "flipped bits, truncation, stray files in every derived file",
        "never a wrong answer; rebuilt or refused by name",
        "tests/crash/test_damage.py",
        "tests/server/galleries/segments",
        "tests/server/galleries/test_backups.py",
        measure=damage,
    ),
    _row(
        "store",
        "SQLite file damaged",
        "refused to start, with the way to restore",
        "tests/server/galleries/test_store.py",
        "tests/server/galleries/test_scrub.py",
    ),
    _row(
        "disk",
        "disk full during each operation, quota reached",
        "no crash, no loss, reads go on, writes resume",
        "tests/crash/test_full_disk.py",
        "tests/server/galleries/test_store.py::test_a_full_disk_refuses_writes_and_lets_searches_go_on",
        "tests/server/galleries/test_backups.py::test_a_full_disk_leaves_no_half_backup_and_no_half_gallery",
        "tests/server/galleries/segments/test_living.py::test_a_full_disk_leaves_rows_in_memory_until_there_is_room",
        "tests/server/security/test_auditing.py::test_on_a_full_disk_a_strict_server_refuses_and_another_one_answers",
        "tests/server/test_overload.py::test_full_quota_refuses_writes_while_searches_go_on_and_deletes_make_room",
    ),
    _row(
        "malformed",
        "malformed and fuzzed images, messages of every method, filters, manifests",
        "0 crashes, memory < 64 MiB, neighbours unharmed",
        "tests/soak/test_fuzz.py",
        "tests/abuse",
        measure=malformed,
    ),
    _row(
        "sigterm",
        "SIGTERM under load",
        "accepted requests failed: 0",
        "tests/soak/test_stopping.py",
        "tests/server/test_lifecycle.py::test_sigterm_loses_no_accepted_request_and_exits_0",
        "tests/server/test_lifecycle.py::test_drain_answers_what_was_accepted_and_ends_streams_politely",
        measure=stopping,
    ),
    _row(
        "steady",
        "an hour at 80 % load with adds and erases",
        "errors 0, memory and files flat, p99 steady",
        "tests/soak/test_steady.py",
        measure=hour,
    ),
    _row(
        "credentials",
        "wrong credentials on every method",
        "refused: all",
        "tests/server/security/test_methods.py",
    ),
    _row(
        "clock",
        "clock set back; two servers on one folder",
        "handled; the second refuses with the holder's name",
        "tests/server/security/test_guard.py::test_what_has_expired_stays_expired_when_the_clock_is_set_back",
        "tests/crash/test_full_disk.py::test_a_clock_that_is_set_back_loses_nothing_and_brings_nobody_back",
        "tests/server/galleries/test_store.py::test_a_second_process_is_refused",
        "tests/server/test_lifecycle.py::test_data_folder_of_a_running_server_is_refused",
    ),
    _row(
        "neighbours",
        "silent streams, unread answers, a flood, a model that hangs",
        "others are answered; health tells",
        "tests/server/test_overload.py",
        "tests/server/test_fairness.py",
        "tests/server/test_vitals.py",
    ),
)
