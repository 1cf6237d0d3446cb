"""``earshot up``: every process of the system on one machine, restarted when one dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import httpx

from earshot.kernel.errors import EarshotError, Misconfigured, Unavailable
from earshot.processes import PROCESSES, REINDEXER

MISCONFIGURED = 78
"""EX_CONFIG of sysexits.h: restarting would not help."""
BACKOFF_S = (0.5, 1, 2, 5, 10)
STEADY_S = 60.0
"""A process that ran this long starts its backoff afresh."""
LOOK_S = 2.0
"""Between two looks at whether a process is wanted that does not always run."""


@dataclass
class Child:
    """One process and how often it died in a row."""

    name: str
    process: subprocess.Popen[bytes]
    started: float
    deaths: int = 0
    restart_at: float | None = None


@dataclass
class Supervisor:
    """Starts the processes, restarts those that die, stops them all.

    Args:
        data: the data folder; logs go to ``logs/`` below it.
        host: address of the web process.
        port: port of the web process.
        say: prints a line for a person.
        reindexing: whether an index is being built, which needs one process more.
    """

    data: Path
    host: str
    port: int
    say: Callable[[str], None]
    reindexing: Callable[[], bool] = bool
    stop_within_s: float = 20.0
    _children: dict[str, Child] = field(default_factory=dict)
    _stopping: bool = False
    _looked: float = 0.0

    @property
    def url(self) -> str:
        """Where the web process answers."""
        return f"http://{'[' + self.host + ']' if ':' in self.host else self.host}:{self.port}"

    @contextlib.contextmanager
    def running(self) -> Iterator[Supervisor]:
        """Start everything; stop everything at the end, whatever happens."""
        with self._sole():
            self._check_port()
            try:
                for name in PROCESSES:
                    self._children[name] = Child(name, self._spawn(name), time.monotonic())
                yield self
            finally:
                self.stop()

    @contextlib.contextmanager
    def _sole(self) -> Iterator[None]:
        self.data.mkdir(parents=True, exist_ok=True)
        with (self.data / "up.lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Misconfigured(
                    f"Earshot is already running on {self.data}.", next_step="Use it, or stop it with: earshot down"
                ) from None
            pid_file = self.data / "up.pid"
            pid_file.write_text(str(os.getpid()))
            try:
                yield
            finally:
                pid_file.unlink(missing_ok=True)

    def _check_port(self) -> None:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.host, self.port))
            except OSError as error:
                raise Misconfigured(
                    f"Earshot cannot listen on {self.host}:{self.port}: {error.strerror}.",
                    next_step="Choose another with --port, or end what listens there.",
                ) from None

    def _spawn(self, name: str) -> subprocess.Popen[bytes]:
        logs = self.data / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "earshot", "worker", name, "--host", self.host, "--port", str(self.port)]
        environment = os.environ | {"EARSHOT_DATA": str(self.data.resolve()), "EARSHOT_SUPERVISOR": str(os.getpid())}
        with (logs / f"{name}.log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
            )

    def tend(self) -> None:
        """Restart what has died. Raises ``Misconfigured`` when a process says that restarting would not help."""
        self._look_at_reindexing()
        for child in self._children.values():
            code = child.process.poll()
            if code is None or _is_done(child):
                continue
            if code == MISCONFIGURED and child.name != REINDEXER:  # the others go on without it
                raise Misconfigured(f"The {child.name} cannot run: {self.last_words(child.name)}")
            self._restart(child, code)

    def _look_at_reindexing(self) -> None:
        """Start the reindexer when an index is being built."""
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return
        self._looked, child = now, self._children.get(REINDEXER)
        if child is not None and child.process.poll() is None:
            return
        try:
            wanted = self.reindexing()
        except EarshotError as error:
            self.say(f"The catalog does not say whether an index is being built: {error}")
            return
        if wanted and (child is None or _is_done(child)):
            self._children[REINDEXER] = Child(REINDEXER, self._spawn(REINDEXER), now)
        elif not wanted and child is not None:
            del self._children[REINDEXER]

    def _restart(self, child: Child, code: int) -> None:
        now = time.monotonic()
        if child.restart_at is None:
            child.deaths = 0 if now - child.started > STEADY_S else child.deaths
            wait = BACKOFF_S[min(child.deaths, len(BACKOFF_S) - 1)]
            child.deaths, child.restart_at = child.deaths + 1, now + wait
            self.say(f"{child.name} ended with {_how(code)}; starting it again in {wait:g} s")
        elif now >= child.restart_at:
            child.process, child.started, child.restart_at = self._spawn(child.name), now, None

    def last_words(self, name: str) -> str:
        """The end of a process's log."""
        lines = (self.data / "logs" / f"{name}.log").read_text(errors="replace").strip().splitlines()
        return "\n".join(lines[-8:]) or "it said nothing"

    def is_ready(self) -> str | None:
        """``None`` when every process answers, else what is missing."""
        try:
            answer = httpx.get(f"{self.url}/health/ready", timeout=2)
        except httpx.HTTPError:
            return "the web process does not answer yet"
        return None if answer.status_code == httpx.codes.OK else answer.text[:1000]

    def wait_ready(self, within_s: float = 60.0) -> None:
        """Return when every process answers. Raises ``Unavailable`` after the deadline with what is missing."""
        deadline = time.monotonic() + within_s
        while (missing := self.is_ready()) is not None:
            self.tend()
            if time.monotonic() > deadline:
                raise Unavailable(
                    "workers", f"Not ready after {within_s:g} s: {missing}", next_step=f"See {self.data}/logs."
                )
            time.sleep(0.1)

    def run(self) -> None:
        """Tend the processes until a signal says stop."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        while not self._stopping:
            self.tend()
            time.sleep(0.2)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def stop(self) -> None:
        """Ask every process to drain, and end those that do not in time."""
        for child in self._children.values():
            if child.process.poll() is None:
                child.process.terminate()
        deadline = time.monotonic() + self.stop_within_s
        for child in self._children.values():
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
        self._children.clear()


def _is_done(child: Child) -> bool:
    """Whether a process has ended because its work has."""
    return child.name == REINDEXER and child.process.poll() == 0


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
