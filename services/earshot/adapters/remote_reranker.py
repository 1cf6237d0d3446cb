"""Reranking by any server that speaks Cohere's ``/v2/rerank``: Cohere, vLLM, Jina."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from earshot.adapters.breaker import Breaker
from earshot.adapters.remote import Endpoint, RemoteSettings, check, finite, placed

PREFIX = "EARSHOT_RERANKER"
MAX_CHARACTERS = 8000
"""What is sent of one text."""
ESCAPED = 6
"""JSON's longest way to write one byte of a text: servers send the documents back, though nobody asked."""
SPARE_BYTES = 65_536
"""Of an answer besides its documents."""


class RemoteReranker:
    """A model on another server.

    Args:
        settings: where it is; its URL ends before ``/rerank``.
        model: its name there.
        breaker: by default one of its own.

    Raises:
        Misconfigured: a setting is missing.
    """

    def __init__(self, settings: RemoteSettings, model: str, breaker: Breaker | None = None) -> None:
        check(settings, model, PREFIX)
        self.model = model
        self._endpoint = Endpoint("reranker", "/rerank", settings, PREFIX, breaker)

    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """The server's relevance scores.

        Raises:
            Unavailable: the server does not answer, or answers with something else than so many scores.
            EngineRejected: it refuses the texts.
            Misconfigured: it refuses us.
        """
        if not texts:
            return []
        said = [text[:MAX_CHARACTERS] or " " for text in texts]
        asked = {"model": self.model, "query": query[:MAX_CHARACTERS], "documents": said, "top_n": len(said)}
        most = ESCAPED * sum(len(text.encode()) for text in said) + 1024 * len(said) + SPARE_BYTES
        return await self._endpoint.ask(asked, most, lambda answer: self._scores(answer, len(texts)))

    async def close(self) -> None:
        """Close the connections."""
        await self._endpoint.close()

    def _scores(self, answer: Any, texts: int) -> list[float]:
        """The scores of an answer in the order of the texts."""
        found = placed(answer.get("results"), texts, "relevance_score") if isinstance(answer, dict) else None
        scores = [score for given in found or () if (score := finite(given)) is not None]
        if len(scores) != texts:
            raise self._endpoint.unavailable(f"answers with something else than a score for each of {texts} texts")
        return scores
