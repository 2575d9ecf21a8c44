"""A process killed at every named step of every operation of several: the old state or the new one, never a mix."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from server import faults
from server.galleries.catalog import Catalog
from tests.crash.operations import OPERATIONS, VICTIMS, State, opened, prepare, state_of
from tests.server.galleries.traces import places

OLD_UNTIL = {
    "erase": ("erase.chosen", "erase.deleted"),
    "backup": ("backup.begun", "backup.written"),
    "restore": ("restore.checked", "restore.begun", "restore.filled", "restore.swapping"),
    "alias": ("alias.written",),
}
"""The points before an operation's one step that counts; after it the new state is there, or at the next start."""
WITHIN = {"backup.purging": "erase"}
"""Points that another operation than the one of their name passes."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared") / "data"
    prepare(folder)
    return folder


@pytest.fixture(scope="module")
def before(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> State:
    return state_of(copied(prepared, tmp_path_factory.mktemp("before")))


@pytest.fixture(scope="module")
def after(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], State]:
    """The state after an undisturbed operation."""
    known: dict[str, State] = {}

    def state(operation: str) -> State:
        if operation not in known:
            folder = copied(prepared, tmp_path_factory.mktemp(operation))
            assert run(folder, OPERATIONS[operation], None) == 0
            known[operation] = state_of(folder)
        return known[operation]

    return state


def copied(prepared: Path, parent: Path) -> Path:
    return Path(shutil.copytree(prepared, parent / "data"))


def run(folder: Path, work: Callable[[Catalog], None], fault: str | None) -> int:
    """Runs an operation in a process of its own, armed with a fault; returns how that ended."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            faults.arm(fault)
            catalog = opened(folder)
            work(catalog)
            catalog.close()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("point", faults.POINTS)
def test_killed_at_a_step_the_state_is_the_old_one_or_the_new(
    prepared: Path, tmp_path: Path, before: State, after: Callable[[str], State], point: str
) -> None:
    operation = WITHIN.get(point, point.split(".")[0])
    folder = copied(prepared, tmp_path)
    assert run(folder, OPERATIONS[operation], point) == faults.EXIT_CODE, "the point was not reached"
    found = state_of(folder)
    if operation == "migrate":
        check_migration(folder, found, before, after("migrate"))
        return
    expected = before if point in OLD_UNTIL.get(operation, ()) else after(operation)
    assert found == expected
    if operation == "erase" and expected is not before:
        assert places(folder, {name: name.encode() for name in VICTIMS}) == {}
    assert run(folder, OPERATIONS[operation], None) in (0, 1)  # a name that is taken by now, perhaps
    if operation != "backup":
        assert state_of(folder) == after(operation)


def check_migration(folder: Path, found: State, before: State, done: State) -> None:
    """Whoever asks by alias gets the old gallery or the whole new one; and it goes on to the end."""
    assert found["galleries"]["lobby"] == before["galleries"]["lobby"]
    if found["aliases"]["front"] == "lobby-2":
        assert found["galleries"]["lobby-2"] == done["galleries"]["lobby-2"]
    else:
        assert found["aliases"] == before["aliases"]
    assert run(folder, OPERATIONS["migrate"], None) == 0
    assert state_of(folder) == done


def test_an_unexpected_error_at_a_step_leaves_a_server_that_goes_on(
    prepared: Path, tmp_path: Path, before: State, after: Callable[[str], State]
) -> None:
    for point in ("erase.deleted", "backup.written", "restore.filled", "restore.swapping", "alias.written"):
        operation = point.split(".")[0]
        folder = copied(prepared, tmp_path / point)
        catalog = opened(folder)
        faults.arm(f"{point}!")
        try:
            with pytest.raises(faults.Fault):
                OPERATIONS[operation](catalog)
        finally:
            faults.arm(None)
        OPERATIONS[operation](catalog)
        catalog.close()
        assert state_of(folder) == after(operation)


def test_the_variable_arms_a_process_at_its_start(prepared: Path, tmp_path: Path) -> None:
    folder = copied(prepared, tmp_path)
    script = (
        "import sys; from pathlib import Path; from tests.crash.operations import *; erase(opened(Path(sys.argv[1])))"
    )
    for wanted, code in (("erase.committed", faults.EXIT_CODE), ("erase.committed:2", 0)):
        environment = {**os.environ, faults.VARIABLE: wanted}
        process = subprocess.run([sys.executable, "-c", script, str(folder)], env=environment, check=False)
        assert process.returncode == code


@pytest.mark.parametrize("wanted", ["nowhere", "erase.chosen:0", "erase.chosen:", "", "erase.chosen!!"])
def test_unknown_points_are_refused(wanted: str) -> None:
    with pytest.raises(ValueError, match="expected NAME, NAME:COUNT or NAME!"):
        faults.arm(wanted)
