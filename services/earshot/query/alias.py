"""From the alias to its index, from the index to its model, from the model to its encoder: once for each question."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from earshot.kernel.errors import EarshotError
from earshot.kernel.ports import Encoder
from earshot.kernel.ports.indexes import Index, Indexes, in_state, serving

log = structlog.get_logger()
Find = Callable[[Index | None], Encoder]
"""Loads the encoder of an index; of ``None``, the one that the settings name. Called in a thread."""


class Alias:
    """The encoder of the index that serves.

    The model of an index that is being built is loaded ahead, and until it is there questions go on to the index
    before, as long as that is kept: nobody waits for a model at the moment the alias moves.

    Args:
        indexes: where the alias is.
        find: loads an encoder.
    """

    def __init__(self, indexes: Indexes, find: Find) -> None:
        self._indexes = indexes
        self._find = find
        self._first: asyncio.Task[Encoder] | None = None
        self._loading: dict[str, asyncio.Task[Encoder]] = {}
        self._last = ""

    async def encoder(self) -> Encoder:
        """The encoder for one question; with its model and dimensions it names the index.

        Raises:
            Misconfigured: the model cannot be loaded.
            Unavailable: the catalog does not answer, or the model would have to be downloaded.
        """
        known = await self._indexes.indexes()
        current = serving(known)
        if current is None:
            return await self._any()
        for ahead in in_state(known, "building"):
            self._load(ahead)
        self._forget({index.name for index in known if index.state != "dropped"})
        loading = self._load(current)
        if not loading.done() and self._last in self._loading:
            return await self._loading[self._last]
        try:
            encoder = await asyncio.shield(loading)
        except EarshotError as error:
            del self._loading[current.name]  # the next question tries again
            if self._last not in self._loading:
                raise
            log.warning("model_not_loaded", index=current.name, error=str(error), instead=self._last)
            return await self._loading[self._last]
        self._settle(current.name, known)
        return encoder

    async def _any(self) -> Encoder:
        """The encoder that the settings name: no index is known, and none can be found in."""
        if self._first is None or (self._first.done() and self._first.exception() is not None):
            self._first = asyncio.create_task(asyncio.to_thread(self._find, None))
        return await asyncio.shield(self._first)

    def _load(self, index: Index) -> asyncio.Task[Encoder]:
        if index.name not in self._loading:
            self._loading[index.name] = asyncio.create_task(asyncio.to_thread(self._find, index))
            self._loading[index.name].add_done_callback(_seen)
        return self._loading[index.name]

    def _settle(self, name: str, known: Sequence[Index]) -> None:
        """This one answers from now on; models of indexes that neither serve nor are built may go."""
        self._last = name
        self._forget({name} | {index.name for index in in_state(known, "building")})

    def _forget(self, but: set[str]) -> None:
        for name in [name for name in self._loading if name not in but]:
            del self._loading[name]


def _seen(task: asyncio.Task[Encoder]) -> None:
    """Whoever asks gets the error; when nobody does, it is no warning either."""
    if not task.cancelled():
        task.exception()
