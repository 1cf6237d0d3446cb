"""The child's side of :mod:`earshot.adapters.isolated`, and the wire both sides speak. Imports little, to start fast.

A frame is two lengths (32 bit, network order), JSON, then bytes. ``bytes`` values lie in the second part, the JSON
names their place. Nothing but plain values crosses: a child that hostile input has taken over cannot make its parent
run anything, as unpickling could.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import resource
import signal
import struct
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from earshot.kernel.errors import EarshotError

HEADER = struct.Struct("!II")
MAX_PART = 256 * 1024 * 1024  # far above any segment or result; a garbled length must not become an allocation
_BYTES = "\x00bytes"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def pack(message: dict[str, Any]) -> bytes:
    """One frame of plain values: what JSON knows, and ``bytes``. Tuples arrive as lists.

    Raises:
        TypeError: a value is neither.
    """
    parts: list[bytes] = []

    def hoist(value: Any) -> dict[str, list[int]]:
        if not isinstance(value, bytes | bytearray | memoryview):
            raise TypeError(f"{type(value).__name__} cannot be sent to another process")
        start = sum(map(len, parts))
        parts.append(bytes(value))
        return {_BYTES: [start, start + len(parts[-1])]}

    text = json.dumps(message, default=hoist).encode()
    blob = b"".join(parts)
    return HEADER.pack(len(text), len(blob)) + text + blob


def unpack(text: bytes, blob: bytes) -> dict[str, Any]:
    """The message of a frame's two parts. Raises ``ValueError`` when it is garbled."""

    def lower(value: dict[str, Any]) -> Any:
        place = value.get(_BYTES)
        return value if place is None else blob[int(place[0]) : int(place[1])]

    message = json.loads(text, object_hook=lower)
    if not isinstance(message, dict):
        raise ValueError("not a message")  # noqa: TRY004 - garbled, as far as the caller is concerned
    return message


def main() -> None:
    """Serve calls from standard input until it ends. The first frame says what to make and within which limits."""
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not end up between frames
    first = _receive(source)
    if first is None:
        return
    _die_with(first["parent"])
    _limit(**first["limits"])
    try:
        module, _, name = first["target"].partition(":")
        served = getattr(importlib.import_module(module), name)(*first["args"])
    except Exception as error:  # reported to the parent, which decides
        _send(sink, {"error": _describe(error)})
        return
    _send(sink, {"value": None})
    while (request := _receive(source)) is not None:
        _answer(sink, getattr(served, request["method"]), request)


def _answer(sink: BinaryIO, method: Callable[..., Any], request: dict[str, Any]) -> None:
    try:
        if request["stream"]:
            _stream(sink, method(*request["args"]))
        else:
            _send(sink, {"value": method(*request["args"])})
    except BrokenPipeError:
        raise SystemExit(0) from None  # the parent is gone
    except Exception as error:  # reported to the parent, which decides
        _send(sink, {"error": _describe(error)})


def _stream(sink: BinaryIO, items: Iterator[Any]) -> None:
    """Send items one by one; a full pipe holds the child back until the parent has read."""
    for item in items:
        _send(sink, {"item": item})
    _send(sink, {"value": None})


def _describe(error: Exception) -> dict[str, str]:
    if isinstance(error, EarshotError):
        known = {"kind": type(error).__name__, "detail": error.detail, "next_step": error.next_step, "code": error.code}
        return known | {"dependency": str(getattr(error, "dependency", ""))}
    kind = "MemoryError" if isinstance(error, MemoryError) else type(error).__name__
    if kind != "MemoryError":
        traceback.print_exception(error)
    return {"kind": kind, "detail": str(error)[:500], "next_step": "", "code": "", "dependency": ""}


def _send(sink: BinaryIO, message: dict[str, Any]) -> None:
    sink.write(pack(message))
    sink.flush()


def _receive(source: BinaryIO) -> dict[str, Any] | None:
    header = source.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    text, blob = HEADER.unpack(header)
    return unpack(source.read(text), source.read(blob))


def _die_with(parent: int) -> None:
    """On Linux the kernel ends this process with its parent, even in the middle of a call; elsewhere the pipe's end."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit(0)  # it died before we asked


def _limit(*, memory_bytes: int | None, cpu_s: int | None) -> None:
    """Bound this process. ``RLIMIT_DATA`` counts what is written to, not what libraries merely reserve."""
    if memory_bytes is not None and sys.platform == "linux":
        _lower(resource.RLIMIT_DATA, memory_bytes, memory_bytes)
    if cpu_s is not None:
        _lower(resource.RLIMIT_CPU, cpu_s, cpu_s + 5)
    _lower(resource.RLIMIT_CORE, 0, 0)  # a core dump would hold the audio


def _lower(which: int, soft: int, hard: int) -> None:
    """Lower a limit; one that is lower already stays."""
    ceiling = resource.getrlimit(which)[1]
    hard = hard if ceiling == resource.RLIM_INFINITY else min(hard, ceiling)
    resource.setrlimit(which, (min(soft, hard), hard))
