"""Small disks of a test's own, to be filled and made read-only: a tmpfs, where the tests may mount one."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.waiting import eventually_sync

MIB = 1024 * 1024
_BALLAST = "ballast"


class SmallDisk:
    """A mounted tmpfs.

    Args:
        folder: where it is mounted; its content, if there is any, is taken along.
        size: in bytes.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self._size = size
        self._ballast = folder / _BALLAST

    def mount(self) -> None:
        """Mount it. Raises ``OSError`` where that is not allowed."""
        aside = self.folder.with_name(f"{self.folder.name}.aside")
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(self.folder, aside, dirs_exist_ok=True)
        _run("mount", "-t", "tmpfs", "-o", f"size={self._size}", "earshot-test", str(self.folder))
        shutil.copytree(aside, self.folder, dirs_exist_ok=True)
        shutil.rmtree(aside)

    def unmount(self) -> None:
        """Unmount it, whoever still has a file open there."""
        _run("umount", "-l", str(self.folder))

    def fill(self) -> None:
        """Leave not one block free."""
        with self._ballast.open("ab", buffering=0) as file:
            for block in (MIB, 4096):
                with contextlib.suppress(_DiskFull):
                    while True:
                        _write(file.fileno(), block)

    @property
    def free(self) -> int:
        """Bytes that are left."""
        return shutil.disk_usage(self.folder).free

    def make_room(self) -> None:
        """Undo :meth:`fill`."""
        self._ballast.unlink()

    def read_only(self, on: bool) -> None:
        """Let nobody write, or everybody again. Raises ``OSError`` while a file is open for writing."""
        _run("mount", "-o", f"remount,{'ro' if on else 'rw'}", str(self.folder))


class _DiskFull(Exception):
    """No block is left."""


def _write(file: int, size: int) -> None:
    try:
        if os.write(file, b"\0" * size) < size:
            raise _DiskFull
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise _DiskFull from None
        raise


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[SmallDisk]:
    """A small disk for as long as the block lasts; skips the test where nobody may mount one."""
    disk = SmallDisk(folder, size)
    try:
        disk.mount()
    except OSError as error:
        pytest.skip(f"A disk of the test's own needs the right to mount a tmpfs (root on Linux). {error}")
    try:
        yield disk
    finally:
        disk.unmount()


@dataclass
class Store:
    """A store that can be taken away.

    Attributes:
        url: as the settings take it.
        fail: take it away.
        mend: give it back.
        words: of the reason that a stage gives meanwhile.
    """

    url: str
    fail: Callable[[], object]
    mend: Callable[[], object]
    words: tuple[str, ...]


@contextlib.contextmanager
def folder_store(folder: Path, scheme: str, words: tuple[str, ...]) -> Iterator[Store]:
    """A store in a folder that becomes read-only."""
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        if os.geteuid() == 0:  # root writes where it likes, but not on a disk that is read-only
            disk = stack.enter_context(small_disk(folder, 64 * MIB))
            fail, mend = lambda: _patiently(lambda: disk.read_only(True)), lambda: disk.read_only(False)
        else:
            fail, mend = lambda: _allow(folder, 0o500), lambda: _allow(folder, 0o700)
        yield Store(f"{scheme}{folder}", fail, mend, words)
        mend()


def _patiently(call: Callable[[], object]) -> None:
    """Again while a file is open."""
    eventually_sync(lambda: call() is None)


def _allow(folder: Path, mode: int) -> None:
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(mode)
