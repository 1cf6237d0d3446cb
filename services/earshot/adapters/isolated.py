"""Work that may crash, hang or eat memory, in a process of its own: spawned, limited, killed at its deadline.

    worker = Isolated("package.module:Class", arg, name="decoder", limits=Limits(memory_bytes=2**30))
    value = await worker.call("method", 1, 2, deadline_s=30)
    async for item in worker.stream("generator_method", path, deadline_s=60): ...
    await worker.close()

Arguments and results are plain values: what JSON knows, and ``bytes``.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from earshot.adapters import scratch
from earshot.adapters.isolated_child import HEADER, MAX_PART, pack, unpack
from earshot.kernel import errors
from earshot.kernel.errors import EarshotError, UnitCrashed

DEADLINE = "deadline_passed"
CPU_LIMIT = "cpu_limit"
MEMORY_LIMIT = "memory_limit"
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from earshot.adapters.isolated_child import main; main()"
)
_SECRET_WORDS = ("KEY", "SECRET", "TOKEN", "PASSWORD", "CREDENTIAL")
_COUNT = itertools.count()


@dataclass(frozen=True)
class Limits:
    """What the child may use in all its life.

    Attributes:
        memory_bytes: of data it writes to (``RLIMIT_DATA``, enforced on Linux); ``None``: unlimited.
        cpu_s: CPU seconds; ``None``: unlimited.
    """

    memory_bytes: int | None = None
    cpu_s: int | None = None


class Isolated:
    """One object, made and kept in a child process. Calls are served one at a time.

    A child that died is started again by the next call. Errors of ``kernel.errors`` pass through as they are; a crash,
    an exit, a passed deadline and any other exception are ``UnitCrashed`` (codes ``deadline_passed``, ``cpu_limit``
    and ``memory_limit`` where that was the reason).

    Args:
        target: ``package.module:callable``, called in the child with ``args``; its result serves the calls.
        name: said in errors: "The decoder …".
        limits: set in the child before it imports the target.
        start_deadline_s: how long the target may take to be made.
    """

    def __init__(
        self, target: str, *args: Any, name: str, limits: Limits | None = None, start_deadline_s: float = 60.0
    ) -> None:
        self._target, self._args, self._name = target, args, name
        self._limits = limits or Limits()
        self._start_deadline_s = start_deadline_s
        self._process: asyncio.subprocess.Process | None = None
        self._folder: Path | None = None
        self._turn = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """The child's process id, ``None`` while there is none."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self) -> None:
        """Spawn the child and wait until its target is made. Does nothing when it runs already."""
        async with self._turn:
            await self._ensure()

    async def call(self, method: str, *args: Any, deadline_s: float) -> Any:
        """The result of one method."""
        async with self._turn:
            await self._ensure()
            message = await self._exchange({"method": method, "args": args, "stream": False}, deadline_s)
            return message["value"]

    async def stream(self, method: str, *args: Any, deadline_s: float) -> AsyncGenerator[Any, None]:
        """The items of one generator method, each within the deadline. The child waits until an item is read.

        Leaving the loop early ends the child.
        """
        async with self._turn:
            await self._ensure()
            finished = False
            try:
                message = await self._exchange({"method": method, "args": args, "stream": True}, deadline_s)
                while "item" in message:
                    yield message["item"]
                    message = await self._exchange(None, deadline_s)
                finished = True
            except EarshotError:
                finished = True  # reported by the child, or the child is gone already
                raise
            finally:
                if not finished:
                    await self._end()

    async def close(self) -> None:
        """End the child. It may be used again afterwards."""
        await self._end()

    async def _ensure(self) -> None:
        if self.pid is not None:
            return
        await self._end()
        self._folder = scratch.folder() / f"{self._name}-{next(_COUNT)}"
        self._folder.mkdir()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _BOOT, json.dumps(sys.path),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            env=_environment(self._folder), start_new_session=True,
        )  # fmt: skip
        hello = {"target": self._target, "args": self._args, "limits": asdict(self._limits), "parent": os.getpid()}
        try:
            await self._exchange(hello, self._start_deadline_s)
        except EarshotError:
            await self._end()
            raise

    async def _exchange(self, request: dict[str, Any] | None, deadline_s: float) -> dict[str, Any]:
        """Send a request, if there is one, and read one message. Raises what the child reports."""
        try:
            async with asyncio.timeout(deadline_s):
                message = await self._talk(request)
        except TimeoutError:
            await self._end()
            raise UnitCrashed(
                f"The {self._name} did not answer within {deadline_s:g} s and was stopped.", code=DEADLINE
            ) from None
        except (asyncio.IncompleteReadError, ConnectionError):
            raise await self._post_mortem() from None
        except BaseException:  # garbled, or cancelled in the middle of a message: the child's state is unknown
            await self._end()
            raise
        if (report := message.get("error")) is not None:
            raise _revive(self._name, report)
        return message

    async def _talk(self, request: dict[str, Any] | None) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if request is not None:
            self._process.stdin.write(pack(request))
            await self._process.stdin.drain()
        text, blob = HEADER.unpack(await self._process.stdout.readexactly(HEADER.size))
        if max(text, blob) > MAX_PART:
            raise UnitCrashed(f"The {self._name} answered nonsense.")
        try:
            return unpack(await self._process.stdout.readexactly(text), await self._process.stdout.readexactly(blob))
        except (ValueError, TypeError, LookupError):
            raise UnitCrashed(f"The {self._name} answered nonsense.") from None

    async def _post_mortem(self) -> UnitCrashed:
        """How the child ended, as an error."""
        assert self._process is not None
        with suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), 5)  # the pipe is closed: the end is near
        process = self._process
        await self._end()
        code = process.returncode or 0
        if code == -signal.SIGXCPU:
            return UnitCrashed(f"The {self._name} used up its {self._limits.cpu_s} s of CPU time.", code=CPU_LIMIT)
        if code < 0:
            hint = " It may have run out of memory." if code == -signal.SIGKILL else ""
            return UnitCrashed(f"The {self._name} died of signal {signal.Signals(-code).name}.{hint}")
        return UnitCrashed(f"The {self._name} exited with code {code} in the middle of its work.")

    async def _end(self) -> None:
        """Kill the child with what it started, reap it, remove its temporary files."""
        process, self._process = self._process, None
        folder, self._folder = self._folder, None
        if process is not None:
            await asyncio.shield(asyncio.ensure_future(_reap(process)))
        if folder is not None:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _reap(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):  # it ended by itself
            os.killpg(process.pid, signal.SIGKILL)  # a session of its own: the group is the child and its children
    # wait() wants the pipes closed too, and a paused one never closes by itself; asyncio offers no public way to do it
    getattr(process, "_transport").close()  # noqa: B009
    await process.wait()


def _environment(temporary: Path) -> dict[str, str]:
    """Our own environment without secrets, with a folder of its own for temporary files."""
    hidden = {name for name in os.environ if name.startswith("EARSHOT_") or any(w in name for w in _SECRET_WORDS)}
    return {name: value for name, value in os.environ.items() if name not in hidden} | {"TMPDIR": str(temporary)}


def _revive(name: str, report: dict[str, str]) -> EarshotError:
    """The error that a child reported."""
    kind = getattr(errors, report["kind"], None)
    if report["kind"] == "MemoryError":
        return UnitCrashed(f"The {name} needed more memory than it may use.", code=MEMORY_LIMIT)
    if not (isinstance(kind, type) and issubclass(kind, EarshotError)):
        return UnitCrashed(f"The {name} failed with {report['kind']}: {report['detail']}")
    if issubclass(kind, errors.Unavailable):
        return kind(report["dependency"], report["detail"], next_step=report["next_step"])
    return kind(report["detail"], next_step=report["next_step"], code=report["code"])
