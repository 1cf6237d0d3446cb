"""Which reranker: none, one of this machine's, or another server's; and how little it may cost a search."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import structlog
from pydantic import Field

from earshot.adapters import named_encoders
from earshot.adapters.bge_m3 import HEADS
from earshot.adapters.breaker import Breaker
from earshot.adapters.encoders import EncoderSettings
from earshot.adapters.remote import RemoteSettings
from earshot.kernel.errors import EarshotError, Misconfigured, Transient, Unavailable
from earshot.kernel.ports import Reranker
from earshot.kernel.settings import config, load

WORDLLAMA = "wordllama"
UNHINDERED = 256
"""Calls at the same time of a reranker that takes milliseconds."""

_log = structlog.get_logger()


class RerankerSettings(RemoteSettings):
    """``EARSHOT_RERANKER__…``: what judges the best candidates of a search again."""

    model_config = config("RERANKER__")

    model: str = Field(
        "",
        description="wordllama, bge-m3 (its lexical and multi-vector scores), bge-reranker-v2-m3, the folder of one "
        "like these, or, with a URL, its name there; none: no reranking; empty: wordllama where it is installed.",
    )
    model_cache: Path | None = Field(None, description="Where models from the hub are kept; empty: HF_HOME.")
    device: str = Field("", description="cuda:0, cpu, …; empty: the first GPU there is, else the CPU.")
    url: str = Field(
        "",
        pattern=r"^(https?://\S+)?$",
        description="Server that speaks Cohere's API, up to before /rerank: https://api.cohere.com/v2; empty: here.",
    )
    timeout_s: float = Field(2.0, gt=0, description="A search goes on without a reranker that takes longer.")
    tries: int = Field(2, ge=1, le=10, description="Of one request to the server, within that time.")
    candidates: int = Field(20, ge=1, le=1000, description="So many of the best passages are judged again.")
    calls_at_once: int = Field(4, ge=1, le=256, description="Searches reranked at the same time; others go without.")


def choose(settings: RerankerSettings | None = None) -> BoundedReranker | None:
    """The reranker that the settings name, not yet loaded; ``None`` when they name ``none``, or none and none is there.

    Args:
        settings: by default those of the environment.

    Raises:
        Misconfigured: there is no such model.
    """
    settings = settings or load(RerankerSettings)
    if not settings.url and not settings.model:
        settings = settings.model_copy(update={"model": WORDLLAMA if find_spec(WORDLLAMA) else "none"})
    if not settings.url and settings.model == "none":
        return None
    at_once = UNHINDERED if settings.model == WORDLLAMA else settings.calls_at_once
    return BoundedReranker(settings.model, _loader(settings), settings.timeout_s, at_once)


class BoundedReranker:
    """A reranker that is loaded by its first call, given so much time, and left alone while it fails.

    A model of this machine cannot be interrupted: a call that is given up goes on in its thread, and counts among those
    at once until it ends.

    Args:
        model: its name.
        make: loads it; called in the event loop, once, until it succeeds.
        timeout_s: of a call, loading included.
        at_once: calls at the same time; one more is refused at once.
        breaker: by default one of its own.
    """

    def __init__(
        self,
        model: str,
        make: Callable[[], Awaitable[Reranker]],
        timeout_s: float,
        at_once: int,
        breaker: Breaker | None = None,
    ) -> None:
        self.model = model
        self._make, self._timeout_s, self._at_once = make, timeout_s, at_once
        self._breaker = breaker or Breaker()
        self._loading: asyncio.Task[Reranker] | None = None
        self._calls: set[asyncio.Task[list[float]]] = set()

    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """One finite score a text.

        Raises:
            Unavailable: it takes too long, is busy, fails, or is left alone after failing.
            EarshotError: what else it raises.
        """
        if not texts:
            return []
        if not self._breaker.allows:
            raise Unavailable("reranker", f"The reranker {self.model} failed and rests: {self._breaker.rests_s:.0f} s.")
        if len(self._calls) >= self._at_once:
            raise Unavailable("reranker", f"The reranker {self.model} is busy with {len(self._calls)} searches.")
        try:
            scores = await self._in_time(query, texts)
        except EarshotError as error:
            self._failed(error)
            raise
        self._breaker.succeeded()
        return scores

    async def _in_time(self, query: str, texts: Sequence[str]) -> list[float]:
        call = asyncio.create_task(self._call(query, texts))
        self._calls.add(call)
        call.add_done_callback(self._ended)
        try:
            scores = await asyncio.wait_for(asyncio.shield(call), self._timeout_s)
        except TimeoutError:
            what = f"The reranker {self.model} takes longer than {self._timeout_s:g} s."
            step = "Use a GPU, fewer EARSHOT_RERANKER__CANDIDATES, or a longer EARSHOT_RERANKER__TIMEOUT_S."
            raise Unavailable("reranker", what, next_step=step) from None
        if len(scores) != len(texts) or not all(map(math.isfinite, scores)):
            raise Unavailable("reranker", f"The reranker {self.model} gives no finite score for each passage.")
        return scores

    async def _call(self, query: str, texts: Sequence[str]) -> list[float]:
        if self._loading is None or (self._loading.done() and self._loading.exception() is not None):
            self._loading = asyncio.ensure_future(self._make())
        reranker = await asyncio.shield(self._loading)
        return await reranker.rerank(query, texts)

    def _ended(self, call: asyncio.Task[list[float]]) -> None:
        """Forget a call; one that nobody waited for any more has its error looked at here."""
        self._calls.discard(call)
        if not call.cancelled():
            call.exception()

    def _failed(self, error: EarshotError) -> None:
        self._breaker.failed()
        if isinstance(error, Transient):
            _log.warning("reranking failed", model=self.model, reason=str(error))
        else:  # a person must act
            _log.error("reranking failed", model=self.model, reason=str(error))


def _loader(settings: RerankerSettings) -> Callable[[], Awaitable[Reranker]]:
    """What makes the reranker. Checks first what needs no loading."""
    if settings.url:
        from earshot.adapters.remote_reranker import RemoteReranker

        remote = RemoteReranker(settings, settings.model)

        async def made() -> Reranker:
            return remote

        return made
    named = (WORDLLAMA, "bge-m3", "bge-reranker-v2-m3")
    folder = None if settings.model in named else Path(settings.model).expanduser()
    if folder is not None and not folder.is_dir():
        raise Misconfigured(
            f"EARSHOT_RERANKER__MODEL is neither {', '.join(named)} nor a folder: {settings.model}",
            next_step="Set it to one of them, or to none.",
        )
    return lambda: asyncio.to_thread(_loaded, settings, folder)


def _loaded(settings: RerankerSettings, folder: Path | None) -> Reranker:
    if settings.model == WORDLLAMA:
        from earshot.adapters.wordllama_reranker import WordLlamaReranker

        return WordLlamaReranker()
    from earshot.adapters.bge_m3 import BgeM3Encoder
    from earshot.adapters.bge_reranker import BgeReranker

    m3 = settings.model == "bge-m3" or (folder is not None and all((folder / head).is_file() for head in HEADS))
    if not m3:
        return BgeReranker(folder, settings.model_cache, settings.device)
    embedding = load(EncoderSettings)
    if (embedding.device, embedding.model_cache) == (settings.device, settings.model_cache):
        encoder = named_encoders.named(settings.model)  # one copy of the weights where it is the embedder's model too
        assert isinstance(encoder, BgeM3Encoder)
        return encoder
    return BgeM3Encoder(folder, settings.model_cache, settings.device, "EARSHOT_RERANKER")
