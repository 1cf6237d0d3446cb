"""One system on a data folder, and none before the processes of the last one have ended."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from earshot.kernel.errors import Misconfigured, Unavailable

_LOCK = "up.lock"


@contextmanager
def sole(data: Path) -> Iterator[None]:
    """Be the one supervisor of a data folder, with the process id in ``up.pid``. Raises ``Misconfigured``."""
    data.mkdir(parents=True, exist_ok=True)
    with (data / _LOCK).open("a+") as lock:
        if not _locked(lock.fileno()):
            raise Misconfigured(
                f"Earshot is already running on {data}.", next_step="Use it, or stop it with: earshot down"
            )
        pid_file = data / "up.pid"
        pid_file.write_text(str(os.getpid()))
        try:
            yield
        finally:
            pid_file.unlink(missing_ok=True)


def is_running(data: Path) -> bool:
    """Whether a supervisor runs on a data folder; the file with its process id outlives one that was killed."""
    try:
        lock = os.open(data / _LOCK, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _locked(lock)
    finally:
        os.close(lock)


@contextmanager
def after_the_last(data: Path, within_s: float) -> Iterator[int]:
    """Wait until the processes of a supervisor that was killed have ended: they drain, and hold ports and locks.

    Args:
        data: the folder.
        within_s: how long they may take.

    Yields:
        A descriptor to pass on to every process that is started: its lock is free when the last of them is gone.

    Raises:
        Unavailable: they have not ended in time.
    """
    lock = os.open(data / "workers.lock", os.O_CREAT | os.O_RDWR, 0o600)
    deadline = time.monotonic() + within_s
    try:
        while not _locked(lock):
            if time.monotonic() > deadline:
                raise Unavailable(
                    "workers",
                    f"Processes that were left of the last run on {data} have not ended.",
                    next_step="End what `ps` shows as: earshot worker",
                )
            time.sleep(0.1)
        yield lock
    finally:
        os.close(lock)


def _locked(descriptor: int) -> bool:
    """Lock a file that nobody else has locked; the lock lives as long as the last copy of the descriptor."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
