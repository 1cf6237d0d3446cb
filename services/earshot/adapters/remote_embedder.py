"""Embeddings from any server that speaks OpenAI's ``/v1/embeddings``: vLLM, TEI, Ollama, OpenAI itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from earshot.adapters.breaker import Breaker
from earshot.adapters.remote import Endpoint, RemoteSettings, check, finite, placed
from earshot.kernel.errors import Misconfigured

PREFIX = "EARSHOT_EMBEDDER"
MAX_CHARACTERS = 8000
"""What is sent of one text; more than the models read that are worth their price."""
BYTES_A_NUMBER = 32
"""The longest that servers write one of a vector: sign, 17 digits, exponent, comma, white space."""
SPARE_BYTES = 65_536
"""Of an answer besides its vectors."""


class RemoteEncoder:
    """A model on another server. Nothing is asked before there is something to encode.

    Args:
        settings: where it is; its URL ends before ``/embeddings``.
        model: its name there. The index is another than that of a model of this name here.
        dimensions: of its vectors.
        batch_texts: texts in one request.
        breaker: by default one of its own.

    Raises:
        Misconfigured: a setting is missing.
    """

    def __init__(
        self,
        settings: RemoteSettings,
        model: str,
        dimensions: int,
        batch_texts: int = 32,
        breaker: Breaker | None = None,
    ) -> None:
        check(settings, model, PREFIX)
        if not dimensions:
            raise Misconfigured(
                f"{PREFIX}__URL is set, but not how many dimensions the vectors have.",
                next_step=f"Set {PREFIX}__DIMENSIONS to what the server's model gives.",
            )
        self.model = f"remote-{model}"
        self.dimensions = dimensions
        self._name, self._batch_texts = model, batch_texts
        self._endpoint = Endpoint("engine", "/embeddings", settings, PREFIX, breaker)

    async def encode_passages(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector of unit length a text.

        Raises:
            Unavailable: the server does not answer, or answers with something else than so many vectors.
            EngineRejected: it refuses a text.
            Misconfigured: it refuses us, or its vectors have other dimensions.
        """
        vectors: list[list[float]] = []
        for start in range(0, len(texts), self._batch_texts):
            vectors += await self._encode(texts[start : start + self._batch_texts])
        return vectors

    async def encode_query(self, text: str) -> list[float]:
        """The vector of a question: made as a passage's is."""
        return (await self.encode_passages([text]))[0]

    async def close(self) -> None:
        """Close the connections."""
        await self._endpoint.close()

    async def _encode(self, texts: Sequence[str]) -> list[list[float]]:
        cut = [text[:MAX_CHARACTERS] or " " for text in texts]  # OpenAI refuses an empty one
        most = len(texts) * max(self.dimensions, 8192) * BYTES_A_NUMBER + SPARE_BYTES
        asked = {"model": self._name, "input": cut, "encoding_format": "float"}
        return await self._endpoint.ask(asked, most, lambda answer: self._vectors(answer, len(texts)))

    def _vectors(self, answer: Any, texts: int) -> list[list[float]]:
        """The vectors of an answer in the order of the texts."""
        found = placed(answer.get("data"), texts, "embedding") if isinstance(answer, dict) else None
        if found is None:
            raise self._endpoint.unavailable(f"answers with something else than an embedding for each of {texts} texts")
        return [self._unit(numbers) for numbers in found]

    def _unit(self, given: Any) -> list[float]:
        """Scaled to length 1."""
        numbers = [finite(number) for number in given] if isinstance(given, list) else []
        if numbers and len(numbers) != self.dimensions:
            raise Misconfigured(
                f"The vectors of {self._endpoint.host} have {len(numbers)} dimensions, not {self.dimensions}.",
                next_step=f"Correct {PREFIX}__DIMENSIONS or __MODEL; another number of dimensions is another index.",
            )
        length = math.hypot(*(math.nan if number is None else number for number in numbers))
        if not 0 < length < math.inf:
            raise self._endpoint.unavailable("answers with vectors that are no finite numbers, or zero")
        return [number / length for number in numbers if number is not None]
