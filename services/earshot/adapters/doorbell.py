"""A doorbell between processes on one machine: a datagram socket per listener in a folder that writers look into."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import socket
import tempfile
from pathlib import Path

import structlog

MAX_SOCKET_PATH = 103
"""Bytes of a Unix socket's path: 108 on Linux, 104 on macOS, with the closing NUL (``sun_path`` of unix(7))."""

log = structlog.get_logger()


def bell_folder(log_path: Path) -> Path:
    """The folder of a log's doorbells: beside the log, or a short one when the socket's path would be too long."""
    beside = Path(f"{log_path}.bells")
    if len(os.fsencode(beside / _name())) <= MAX_SOCKET_PATH:
        return beside
    digest = hashlib.sha256(os.fsencode(log_path)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"earshot-{os.getuid()}-{digest}"


def _name() -> str:
    return f"{os.getpid()}-{secrets.token_hex(4)}"


class Doorbell:
    """Listens with :meth:`listen`, rings everybody else's with :meth:`ring`.

    A lost ring is no error: listeners look for themselves once a second.
    """

    def __init__(self, log_path: Path) -> None:
        self.rung = asyncio.Event()
        self._folder = bell_folder(log_path)
        self._socket: socket.socket | None = None
        self._path: Path | None = None
        self._out: socket.socket | None = None
        self._usable = self._prepare()

    def _prepare(self) -> bool:
        """Make the folder; refuse one that belongs to somebody else (the temporary folder is shared)."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._folder.is_symlink() or self._folder.stat().st_uid != os.getuid():
            log.warning("doorbell folder belongs to another user, polling instead", folder=str(self._folder))
            return False
        return True

    def listen(self) -> None:
        """Set ``rung`` at every ring from now on."""
        if self._socket is not None or not self._usable:
            return
        listener, path = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), self._folder / _name()
        listener.setblocking(False)
        try:
            self._prepare()
            listener.bind(str(path))
        except OSError as error:
            log.warning("no doorbell, polling instead", error=str(error))
            listener.close()
            self._usable = False
            return
        self._socket, self._path = listener, path
        asyncio.get_running_loop().add_reader(listener.fileno(), self._answer)

    def _answer(self) -> None:
        assert self._socket is not None
        try:
            while self._socket.recv(16):
                pass
        except BlockingIOError:
            pass  # emptied
        self.rung.set()

    def ring(self) -> None:
        """Wake every listener, and take away what dead ones left behind."""
        if not self._usable:
            return
        if self._out is None:
            self._out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._out.setblocking(False)
        for path in self._listeners():
            try:
                self._out.sendto(b"!", path)
            except ConnectionRefusedError:
                Path(path).unlink(missing_ok=True)  # nobody listens: its process died
            except OSError:
                continue  # full, so it is ringing already; or just gone

    def _listeners(self) -> list[str]:
        try:
            return [entry.path for entry in os.scandir(self._folder)]
        except OSError as error:
            log.warning("the doorbell's folder cannot be read, consumers poll", error=str(error))
            return []

    def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._socket is not None and self._path is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._path.unlink(missing_ok=True)
            self._socket = None
        if self._out is not None:
            self._out.close()
            self._out = None
