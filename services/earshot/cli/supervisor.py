"""``earshot up``: every process of the system on one machine, restarted when one dies."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import httpx

from earshot.cli.sole import after_the_last, sole
from earshot.kernel.ending import EXIT_FORCED, SIGNALS
from earshot.kernel.errors import EarshotError, Misconfigured, Unavailable
from earshot.processes import PROCESSES, REINDEXER, STAGES

MISCONFIGURED = 78
"""EX_CONFIG of sysexits.h: restarting would not help."""
BACKOFF_S = (0.5, 1, 2, 5, 10)
STEADY_S = 60.0
"""A process that ran this long starts its backoff afresh."""
LOOK_S = 2.0
"""Between two looks at whether a process is wanted that does not always run."""
IN_ORDER = (("web",), ("relay",), (*STAGES, REINDEXER))
"""They end one group after the other: first nothing more comes in, then what came in is on the log, then the rest."""
KILLED = 1
"""Exit code when a process had to be killed: what it had begun is done again."""
MARGIN_S = 3.0
"""Beyond their own deadline, processes are killed."""


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
        drain_s: after SIGTERM, how long each of them may take to end by itself.
    """

    data: Path
    host: str
    port: int
    say: Callable[[str], None]
    reindexing: Callable[[], bool] = bool
    drain_s: float = 30.0
    _children: dict[str, Child] = field(default_factory=dict)
    _asked: int = 0
    _killed: bool = False
    _workers_lock: int = -1
    _looked: float = 0.0

    @property
    def url(self) -> str:
        """Where the web process answers."""
        return f"http://{'[' + self.host + ']' if ':' in self.host else self.host}:{self.port}"

    @contextlib.contextmanager
    def running(self) -> Iterator[Supervisor]:
        """Start everything; stop everything at the end, whatever happens."""
        with sole(self.data), after_the_last(self.data, self.drain_s + MARGIN_S) as self._workers_lock:
            self._check_port()
            try:
                for name in PROCESSES:
                    self._children[name] = Child(name, self._spawn(name), time.monotonic())
                yield self
            finally:
                self.stop()

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
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
                pass_fds=(self._workers_lock,),
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

    def wait_ready(self, within_s: float = 60.0) -> bool:
        """Return when every process answers; ``False`` when asked to stop first.

        Raises:
            Unavailable: the deadline passed; says what is missing.
        """
        deadline = time.monotonic() + within_s
        while (missing := self.is_ready()) is not None:
            if self._asked:
                return False
            self.tend()
            if time.monotonic() > deadline:
                raise Unavailable(
                    "workers", f"Not ready after {within_s:g} s: {missing}", next_step=f"See {self.data}/logs."
                )
            time.sleep(0.1)
        return True

    def obey_signals(self) -> None:
        """From now on SIGTERM and SIGINT end :meth:`run`; a second one forces what is left."""
        for number in SIGNALS:
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._asked += 1

    def run(self) -> None:
        """Tend the processes until a signal says stop."""
        while not self._asked:
            self.tend()
            time.sleep(0.2)

    @property
    def code(self) -> int:
        """Exit code after the end: 0; ``KILLED`` when a process had to be; ``EXIT_FORCED`` after a second signal."""
        return EXIT_FORCED if self._asked > 1 else KILLED if self._killed else 0

    def stop(self) -> None:
        """Ask the processes to drain, one group after the other, and kill those that do not end in time."""
        for names in IN_ORDER:
            children = [self._children[name] for name in names if name in self._children]
            for child in children:
                if child.process.poll() is None:
                    child.process.terminate()
            self._wait(children)
        self._children.clear()

    def _wait(self, children: Sequence[Child]) -> None:
        """Return when these processes have ended; a second signal goes to all, and leaves them a moment."""
        deadline = time.monotonic() + self.drain_s + MARGIN_S
        forced = False
        while left := [child for child in children if child.process.poll() is None]:
            if self._asked > 1 and not forced:
                forced, deadline = True, time.monotonic() + MARGIN_S
                for child in left:
                    child.process.terminate()
            if time.monotonic() > deadline:
                self._kill(left)
            time.sleep(0.05)

    def _kill(self, children: Sequence[Child]) -> None:
        for child in children:
            self.say(f"{child.name} has not ended in time and is killed; what it had begun is done again")
            child.process.kill()
            child.process.wait()
        self._killed = True


def _is_done(child: Child) -> bool:
    """Whether a process has ended because its work has."""
    return child.name == REINDEXER and child.process.poll() == 0


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
