"""One real stage that kills itself when told to: ``python -m tests.faults.real_worker STAGE ORDER-FILE``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from earshot.adapters.wiring import Kit
from earshot.kernel.settings import Settings, load_or_exit
from earshot.kernel.stage import Stage
from earshot.streams import worker

WRITES: dict[str, dict[str, set[str]]] = {
    "segmenter": {"blobs": {"put"}},
    "transcriber": {"blobs": {"put"}, "catalog": {"store"}},
    "embedder": {},
    "diarizer": {"blobs": {"put"}},
    "indexer": {"vectors": {"replace_many", "relabel"}, "catalog": {"store_turns"}},
    "tracker": {"catalog": {"record"}},
    "eraser": {
        "vectors": {"delete"},
        "blobs": {"delete"},
        "log": {"publish", "purge"},
        "catalog": {"forget", "source_gone"},
    },
}
"""By stage and store, the writes after which it passes ``in_work``, as it does at each of its outputs."""
OBEYED = ".obeyed"
"""Suffix of an order that was carried out."""


class Orders:
    """Kills this process with SIGKILL as a file says: ``POINT N``, the Nth time from now on that it passes there."""

    def __init__(self, order: Path) -> None:
        self._order = order
        self._last = ""
        self._passed = 0

    def __call__(self, name: str) -> None:
        try:
            order = self._order.read_text()
        except FileNotFoundError:
            return
        if order != self._last:
            self._last, self._passed = order, 0
        point, nth = order.split()
        self._passed += name == point
        if self._passed >= int(nth):
            self._order.rename(self._order.with_suffix(OBEYED))
            os.kill(os.getpid(), signal.SIGKILL)


class Watched:
    """A store that passes ``in_work`` after each of its writes."""

    def __init__(self, store: Any, writes: set[str], point: Callable[[str], None]) -> None:
        self._store, self._writes, self._point = store, writes, point

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._store, name)
        if name not in self._writes:
            return member

        async def write(*args: Any, **kwargs: Any) -> Any:
            result = await member(*args, **kwargs)
            self._point("in_work")
            return result

        return write


def main(name: str, order: Path) -> int:
    """Run the stage as ``earshot worker`` does, under orders."""
    orders = Orders(order)

    def create_stage(kit: Kit) -> Stage:
        for store, writes in WRITES[name].items():
            setattr(kit, store, Watched(getattr(kit, store), writes, orders))
        stage: Stage = import_module(f"earshot.{name}.app").create_stage(kit)
        return stage

    return worker.run(create_stage, load_or_exit(Settings), point=orders)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
