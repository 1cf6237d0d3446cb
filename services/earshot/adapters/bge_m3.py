"""BGE-M3 by FlagEmbedding: a hundred languages, three ways to compare two texts.

Its dense vectors (1024 dimensions) go into the store. Its lexical weights and its vectors of single tokens are too many
to keep, and Weaviate has no index for the former: they judge the best candidates again, at query time.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earshot.adapters import bge
from earshot.kernel.errors import Misconfigured

if TYPE_CHECKING:
    import numpy as np

HUB_NAME = "BAAI/bge-m3"
HEADS = ("colbert_linear.pt", "sparse_linear.pt")
SPARSE_WEIGHT = 0.3
"""Of the lexical score beside the dense and the multi-vector one, which count whole: as the model was trained to be
combined (FlagEmbedding, ``EncoderOnlyEmbedderM3Model.ensemble_score``)."""


@dataclass(frozen=True)
class _Made:
    """What the model makes of one text: the text's vector, the weights of its words, a vector for each token."""

    dense: np.ndarray
    lexical: Mapping[int, float]
    tokens: np.ndarray | None


class BgeM3Encoder:
    """The model from a folder, or from the Hugging Face hub by its cache. Also a reranker, by :meth:`rerank`.

    Args:
        folder: of a model saved whole, with its tokenizer, ``colbert_linear.pt`` and ``sparse_linear.pt``; ``None``:
            the hub's.
        cache: where models from the hub are kept; ``None``: as Hugging Face's own settings say.
        device: ``cuda:0``, ``cpu``, …; empty: the first GPU there is, else the CPU.
        setting: the variables' prefix, for messages.

    Raises:
        Misconfigured: FlagEmbedding is not installed, or the folder is no model.
        Unavailable: the model is not in the cache, and the hub does not answer or refuses.
    """

    dimensions = 1024

    def __init__(
        self,
        folder: Path | None = None,
        cache: Path | None = None,
        device: str = "",
        setting: str = "EARSHOT_EMBEDDER",
    ) -> None:
        self.model = "bge-m3" if folder is None else f"{folder.name.lower()}-{bge.fingerprint(folder)}"
        where = folder or bge.fetched(HUB_NAME, cache, f"{setting}__MODEL")
        self._heads = all((where / name).is_file() for name in HEADS)
        self._one_at_a_time = threading.Lock()  # two passes at once would share the budget of memory
        self.device, self._tokenizer, self._network = bge.load(self.model, lambda: _load(where, device, setting))
        marks = self._tokenizer
        self._no_words = {marks.cls_token_id, marks.eos_token_id, marks.pad_token_id, marks.unk_token_id}
        self.dimensions = int(self._network.model.config.hidden_size)

    async def encode_passages(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector of unit length a text. Raises ``Unavailable`` when the device fails."""
        return await asyncio.to_thread(self._encode, texts)

    async def encode_query(self, text: str) -> list[float]:
        """The vector of a question: BGE-M3 takes no instruction before it."""
        return (await self.encode_passages([text]))[0]

    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """The sum of dense, lexical and multi-vector score of each text.

        Raises:
            Unavailable: the device fails.
            Misconfigured: the folder lacks the layers that the last two are made with.
        """
        if not self._heads:
            raise Misconfigured(
                f"The model {self.model} cannot rerank: it lacks {' and '.join(HEADS)}.",
                next_step="Copy them beside its weights, or set EARSHOT_RERANKER__MODEL to another model.",
            )
        return await asyncio.to_thread(self._scores, query, texts)

    def _encode(self, texts: Sequence[str]) -> list[list[float]]:
        vectors: list[list[float]] = [[]] * len(texts)
        for place, made in self._made(texts, heads=False):
            vectors[place] = [float(number) for number in made.dense]
        return vectors

    def _scores(self, query: str, texts: Sequence[str]) -> list[float]:
        [(_, asked)] = self._made([query], heads=True)
        scores = [0.0] * len(texts)
        for place, made in self._made(texts, heads=True):
            scores[place] = _score(asked, made)
        return scores

    def _made(self, texts: Sequence[str], *, heads: bool) -> Iterator[tuple[int, _Made]]:
        """What the model makes of each text, with the text's place, batch by batch."""
        with self._one_at_a_time:
            yield from bge.passes(bge.tokenized(self._tokenizer, texts), partial(self._run, heads=heads))

    def _run(self, batch: Sequence[bge.Tokens], *, heads: bool) -> list[_Made]:
        """One pass of the model."""
        made = self._network(
            bge.padded(self._tokenizer, batch, self.device),
            return_dense=True,
            return_sparse=heads,
            return_colbert_vecs=heads,
        )
        dense = made["dense_vecs"].float().cpu()
        dense = (dense / dense.norm(dim=1, keepdim=True)).numpy()  # half precision is a thousandth off unit length
        if not heads:
            return [_Made(vector, {}, None) for vector in dense]
        weights = made["sparse_vecs"].squeeze(-1).float().cpu().numpy()
        tokens = made["colbert_vecs"].float().cpu().numpy()
        return [
            _Made(vector, self._lexical(each, weight), token[: len(each["input_ids"]) - 1])  # no vector for <s>
            for vector, each, weight, token in zip(dense, batch, weights, tokens, strict=True)
        ]

    def _lexical(self, tokens: bge.Tokens, weights: np.ndarray) -> dict[int, float]:
        """The highest weight of each token; none for those that are no part of a word."""
        found: dict[int, float] = {}
        for token, weight in zip(tokens["input_ids"], weights.tolist(), strict=False):  # the weights are padded
            if weight > 0 and token not in self._no_words:
                found[token] = max(weight, found.get(token, 0.0))
        return found


def _score(asked: _Made, said: _Made) -> float:
    """How well a passage answers: dense, lexical, and the mean over the question's tokens of the best match each."""
    assert asked.tokens is not None
    assert said.tokens is not None
    dense = float(asked.dense @ said.dense)
    lexical = sum(weight * said.lexical.get(token, 0.0) for token, weight in asked.lexical.items())
    tokens = float((asked.tokens @ said.tokens.T).max(axis=1).mean())
    return dense + SPARSE_WEIGHT * lexical + tokens


def _load(folder: Path, asked: str, setting: str) -> tuple[bge.Device, Any, Any]:
    """Device, tokenizer and network, ready to be called."""
    from FlagEmbedding import BGEM3FlagModel

    device = bge.device(asked, f"{setting}__DEVICE")
    model = BGEM3FlagModel(str(folder), use_fp16=device.half, devices=device.name)
    return device, model.tokenizer, model.model.to(device.name).eval()
