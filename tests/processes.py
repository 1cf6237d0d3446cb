"""Child processes and containers that never outlive the test process, and free ports for them."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import psutil

# The parent-death signal fires when the *thread* that forked ends, so every child is forked by one that never does.
_SPAWNER = ThreadPoolExecutor(1, thread_name_prefix="spawner")


def free_ports(count: int) -> list[int]:
    """So many different loopback ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [int(item.getsockname()[1]) for item in sockets]
    finally:
        for item in sockets:
            item.close()


def answers(port: int) -> bool:
    """Whether something accepts connections on a loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def tied(argv: Sequence[str], user: str | None = None) -> list[str]:
    """A command that dies with its parent and runs as ``user``, where the system has ``setpriv`` (Linux)."""
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    if setpriv is None:
        return list(argv)
    identity = ["--reuid", user, "--regid", str(_group(user)), "--clear-groups"] if user else []
    return [setpriv, *identity, "--pdeathsig", "KILL", "--", *argv]


def _group(user: str) -> int:
    import pwd

    return pwd.getpwnam(user).pw_gid


class Runner(Protocol):
    """Something that runs a server: a process of this machine or a container."""

    def start(self) -> None:
        """Start it, again after ``stop`` or ``kill``; its data and port are the same."""

    def stop(self) -> None:
        """Ask it to end, and wait."""

    def kill(self) -> None:
        """End it at once, as a power cut would."""

    def ended(self) -> str:
        """Empty while it runs; why it ended, with the end of its log, when it does not."""

    def close(self) -> None:
        """Stop it for good and leave nothing behind."""


class Process:
    """A server as a child process; its output goes to a file."""

    def __init__(
        self,
        argv: Sequence[str],
        log: Path,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self._argv = tied(argv, user)
        self._env = {**os.environ, **(env or {})}
        self._log = log
        self._stop_signal = stop_signal
        self._child: subprocess.Popen[bytes] | None = None
        atexit.register(self.kill)

    def start(self) -> None:
        assert self._child is None, "already running"
        self._child = _SPAWNER.submit(self._spawn).result()

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as output:
            return subprocess.Popen(
                self._argv,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        assert self._child is not None, "not running"
        return self._child.pid

    def stop(self) -> None:
        if self._child is None:
            return
        self._child.send_signal(self._stop_signal)
        try:
            self._child.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
        self._child = None

    def kill(self) -> None:
        if self._child is None:
            return
        for victim in _family(self._child.pid):
            try:
                victim.kill()
            except psutil.NoSuchProcess:
                continue  # it was faster than we were
        self._child.wait()
        self._child = None

    def ended(self) -> str:
        if self._child is not None and self._child.poll() is None:
            return ""
        code = "killed" if self._child is None else f"exit code {self._child.returncode}"
        tail = self._log.read_text(errors="replace")[-2000:] if self._log.exists() else ""
        return f"{Path(self._argv[0]).name} ended: {code}\n{tail}"

    def close(self) -> None:
        self.stop()
        atexit.unregister(self.kill)


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


@cache
def docker_answers() -> bool:
    """Whether a Docker engine answers within two seconds."""
    if not os.environ.get("DOCKER_HOST") and not Path("/var/run/docker.sock").exists():
        return False
    import docker

    try:
        client = docker.from_env(timeout=2)
        client.ping()
        client.close()
    except Exception:  # whatever is wrong with it, it is no engine to use
        return False
    return True


class Container:
    """A server as a Docker container on fixed host ports."""

    def __init__(self, image: str, ports: Mapping[int, int], env: Mapping[str, str], command: str = "") -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the library's own deprecations are not ours to fix
            from testcontainers.core.container import DockerContainer

        self._container: Any = DockerContainer(image)
        for name, value in env.items():
            self._container.with_env(name, value)
        for inside, outside in ports.items():
            self._container.with_bind_ports(inside, outside)
        if command:
            self._container.with_command(command)
        self._made = False

    def start(self) -> None:
        if self._made:
            self._container.get_wrapped_container().start()
        else:
            self._container.start()
            self._made = True

    def stop(self) -> None:
        self._container.get_wrapped_container().stop()

    def kill(self) -> None:
        self._container.get_wrapped_container().kill()

    def ended(self) -> str:
        wrapped = self._container.get_wrapped_container()
        wrapped.reload()
        if wrapped.status in ("created", "running", "restarting"):
            return ""
        return f"the container is {wrapped.status}\n{wrapped.logs(tail=40).decode(errors='replace')}"

    def close(self) -> None:
        if self._made:
            self._container.stop()
