"""WordLlama: the embedding model whose weights are inside its package; no download, no GPU, no torch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earshot.kernel.errors import Misconfigured

if TYPE_CHECKING:
    import numpy as np

DIMENSIONS = (64, 128, 256)
"""Lengths of its vectors: the package's weights have 256, and the model was trained for the beginnings too."""
MAX_CHARACTERS = 8000
"""What is embedded of one text; the mean over more tokens than this no longer tells texts apart."""


class WordLlamaEncoder:
    """Token vectors taken from a language model, averaged: deterministic.

    Args:
        dimensions: 256, or the first 128 or 64 of them, which the model was trained to make do with.

    Raises:
        Misconfigured: the package is not installed, or not whole, or has no vectors of this length.
    """

    model = "wordllama-l2"

    def __init__(self, dimensions: int = 256) -> None:
        if dimensions not in DIMENSIONS:
            raise Misconfigured(
                f"WordLlama has no vectors of {dimensions} dimensions.",
                next_step=f"Choose one of: {', '.join(map(str, DIMENSIONS))}.",
            )
        self.dimensions = dimensions
        self._inference = loaded(dimensions)

    async def encode_passages(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector of unit length a text, whatever else is in the batch."""
        return await asyncio.to_thread(self._encode, texts)

    async def encode_query(self, text: str) -> list[float]:
        """The vector of a question: made as a passage's is."""
        return (await self.encode_passages([text]))[0]

    def _encode(self, texts: Sequence[str]) -> list[list[float]]:
        if not texts:
            return []
        # Batches are padded, which moves sums by a rounding error: one by one, a text has one vector for ever.
        raw = self._inference.embed([text[:MAX_CHARACTERS] for text in texts], batch_size=1)
        return [_unit(vector) for vector in raw]


def _unit(vector: np.ndarray) -> list[float]:
    """Scale to length 1; a text without any token gets the same vector every time."""
    import numpy as np

    length = float(np.linalg.norm(vector))
    unit = vector / length if length > 0 else np.full(len(vector), len(vector) ** -0.5)
    return [float(number) for number in unit]


def loaded(dimensions: int) -> Any:
    """The model inside the package. Raises ``Misconfigured``."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        import wordllama

        folder = Path(wordllama.__file__).parent
        return wordllama.WordLlama.load(cache_dir=folder, trunc_dim=dimensions, disable_download=True)
    except (ImportError, FileNotFoundError) as error:
        raise Misconfigured(
            f"The embedding model WordLlama cannot be loaded: {error}",
            next_step="Install it with `pip install 'earshot[local]'`, or set EARSHOT_EMBEDDER__MODEL=bge-m3.",
        ) from error
    finally:
        root.handlers[:] = handlers  # the package calls logging.basicConfig when imported
        root.setLevel(level)
