"""A cross-encoder by FlagEmbedding, such as bge-reranker-v2-m3: reads question and passage together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from earshot.adapters import bge

HUB_NAME = "BAAI/bge-reranker-v2-m3"


class BgeReranker:
    """The model from a folder, or from the Hugging Face hub by its cache.

    Args:
        folder: of a model saved whole, with its tokenizer; ``None``: the hub's.
        cache: where models from the hub are kept; ``None``: as Hugging Face's own settings say.
        device: ``cuda:0``, ``cpu``, …; empty: the first GPU there is, else the CPU.

    Raises:
        Misconfigured: FlagEmbedding is not installed, or the folder is no model.
        Unavailable: the model is not in the cache, and the hub does not answer or refuses.
    """

    def __init__(self, folder: Path | None = None, cache: Path | None = None, device: str = "") -> None:
        self.model = "bge-reranker-v2-m3" if folder is None else f"{folder.name.lower()}-{bge.fingerprint(folder)}"
        where = folder or bge.fetched(HUB_NAME, cache, "EARSHOT_RERANKER__MODEL")
        self._one_at_a_time = threading.Lock()  # two passes at once would share the budget of memory
        self.device, self._tokenizer, self._network = bge.load(self.model, lambda: _load(where, device))

    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """The model's judgement of each text, from 0 to 1. Raises ``Unavailable`` when the device fails."""
        return await asyncio.to_thread(self._scores, query, texts)

    def _scores(self, query: str, texts: Sequence[str]) -> list[float]:
        scores = [0.0] * len(texts)
        with self._one_at_a_time:
            pairs = bge.tokenized(self._tokenizer, [query] * len(texts), texts)
            for place, score in bge.passes(pairs, self._run):
                scores[place] = score
        return scores

    def _run(self, batch: Sequence[bge.Tokens]) -> list[float]:
        """One pass of the model."""
        judged = self._network(**bge.padded(self._tokenizer, batch, self.device), return_dict=True)
        return [float(score) for score in judged.logits.view(-1).float().sigmoid().cpu()]


def _load(folder: Path, asked: str) -> tuple[bge.Device, Any, Any]:
    """Device, tokenizer and network, ready to be called."""
    from FlagEmbedding import FlagReranker

    device = bge.device(asked, "EARSHOT_RERANKER__DEVICE")
    model = FlagReranker(str(folder), devices=device.name)
    network = model.model.half() if device.half else model.model
    return device, model.tokenizer, network.to(device.name).eval()
