"""Temporary files: one folder a process, gone when it ends, and swept by the next one when it could not.

A process holds a lock on its folder for as long as it lives, so a folder whose lock is free belongs to nobody.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

_LOCK = ".lock"


def folder() -> Path:
    """This process's own folder for temporary files."""
    own = _folder(os.getpid())
    if not (own / _LOCK).exists():  # a system that tidies up took it away
        _folder.cache_clear()
        own = _folder(os.getpid())
    return own


@cache
def _folder(_pid: int) -> Path:
    own = claim(_base())
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    return own


def claim(base: Path) -> Path:
    """Make a folder below ``base`` that is this process's own as long as it lives; what others left is swept."""
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    guard = _locked(base / _LOCK)
    try:
        sweep(base)
        own = Path(tempfile.mkdtemp(dir=base))
        _locked(own / _LOCK)  # never closed: the lock lives as long as the process
    finally:
        os.close(guard)
    return own


def sweep(base: Path) -> list[Path]:
    """Remove the folders below ``base`` whose processes are gone; return what was removed."""
    gone = [path for path in base.iterdir() if path.is_dir() and not path.is_symlink() and _abandoned(path)]
    for path in gone:
        shutil.rmtree(path, ignore_errors=True)
    return gone


def _base() -> Path:
    base = Path(tempfile.gettempdir()) / f"earshot-{os.getuid()}"
    base.mkdir(mode=0o700, exist_ok=True)
    about = base.lstat()
    if about.st_uid != os.getuid() or not base.is_dir() or base.is_symlink():
        return Path(tempfile.mkdtemp(prefix="earshot-"))  # somebody else made it first: stay away from it
    return base


def _locked(path: Path) -> int:
    """Wait for the lock on a file and return the descriptor that holds it."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def _abandoned(path: Path) -> bool:
    try:
        descriptor = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
