"""BGE-M3 by FlagEmbedding, dense vectors: 1024 dimensions, a hundred languages."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from earshot.kernel.errors import EarshotError, Misconfigured, Unavailable

HUB_NAME = "BAAI/bge-m3"
MAX_TOKENS = 512
"""Of one text, what is past them is not embedded: FlagEmbedding's own default for passages."""
BATCH_TOKENS = 16_384
"""Padded tokens in one pass of the model, 32 of the longest texts: what 8 GB of GPU memory takes in half precision."""
BYTES_A_TOKEN = 3
"""A low estimate for XLM-RoBERTa's tokenizer, so that batches come out smaller rather than larger than meant."""


class BgeM3Encoder:
    """The model from a folder, or from the Hugging Face hub by its cache.

    Args:
        folder: of a model saved whole, with its tokenizer, ``colbert_linear.pt`` and ``sparse_linear.pt``; ``None``:
            the hub's.
        cache: where models from the hub are kept; ``None``: as Hugging Face's own settings say.
        device: ``cuda:0``, ``cpu``, …; empty: the first GPU there is, else the CPU.

    Raises:
        Misconfigured: FlagEmbedding is not installed, the folder is no model, or the hub refuses.
        Unavailable: the hub does not answer and the model is not in the cache.
    """

    dimensions = 1024

    def __init__(self, folder: Path | None = None, cache: Path | None = None, device: str = "") -> None:
        self.model = "bge-m3" if folder is None else f"{folder.name.lower()}-{_fingerprint(folder)}"
        self._one_at_a_time = threading.Lock()  # FlagEmbedding moves and pads in place
        self._model = _load(str(folder or HUB_NAME), cache, device)
        self.dimensions = int(self._model.model.model.config.hidden_size)

    async def encode_passages(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector of unit length a text. Raises ``Unavailable`` when the device fails."""
        return await asyncio.to_thread(self._encode, texts)

    async def encode_query(self, text: str) -> list[float]:
        """The vector of a question: BGE-M3 takes no instruction before it."""
        return (await self.encode_passages([text]))[0]

    def _encode(self, texts: Sequence[str]) -> list[list[float]]:
        vectors: list[list[float]] = [[]] * len(texts)
        with self._one_at_a_time:
            for places in batches(texts):
                batch = [texts[place] for place in places]
                for place, vector in zip(places, self._dense(batch), strict=True):
                    vectors[place] = vector
        return vectors

    def _dense(self, batch: list[str]) -> list[list[float]]:
        import numpy as np

        try:
            made = self._model.encode(batch, batch_size=len(batch), max_length=MAX_TOKENS, return_dense=True)
        except (RuntimeError, ValueError, IndexError) as error:  # what FlagEmbedding ends in when memory is short
            raise Unavailable("engine", f"The embedding model failed on {len(batch)} texts: {error}") from error
        dense = np.asarray(made["dense_vecs"], dtype=np.float32)
        dense /= np.linalg.norm(dense, axis=1, keepdims=True)  # half precision is a thousandth off unit length
        return [[float(number) for number in vector] for vector in dense]


def batches(texts: Sequence[str]) -> Iterator[list[int]]:
    """Places of texts that go through the model together: of like length, within the token budget."""
    sizes = [min(len(text.encode()) // BYTES_A_TOKEN + 2, MAX_TOKENS) for text in texts]
    batch: list[int] = []
    for place in sorted(range(len(texts)), key=sizes.__getitem__):
        if batch and sizes[place] * (len(batch) + 1) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _load(name: str, cache: Path | None, device: str) -> Any:
    try:
        import torch  # type: ignore[import-not-found,unused-ignore]  # comes with FlagEmbedding
        from FlagEmbedding import BGEM3FlagModel

        chosen = device or ("cuda:0" if torch.cuda.is_available() else "cpu")
        half = chosen.startswith("cuda")
        return BGEM3FlagModel(name, use_fp16=half, devices=chosen, cache_dir=str(cache) if cache else None)
    except ImportError as error:
        raise Misconfigured(
            f"BGE-M3 needs FlagEmbedding: {error}.", next_step="Install it with `pip install 'earshot[embedding]'`."
        ) from error
    except (OSError, ValueError, httpx.HTTPError) as error:
        raise _refused(name, error) from error


def _refused(name: str, error: Exception) -> EarshotError:
    """Why a model did not load, in one sentence. Hugging Face raises ``OSError`` for most of it."""
    cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if Path(name).is_dir():
        return Misconfigured(f"The folder {name} holds no model that loads: {cause}")
    if "gated" in str(error) or "401" in str(error) or "403" in str(error):
        return Misconfigured(f"The hub refuses {name}: {cause}", next_step="Accept its terms there and set HF_TOKEN.")
    return Unavailable(
        "engine",
        f"The embedding model {name} is not cached and cannot be downloaded: {cause}",
        next_step="Set EARSHOT_EMBEDDER__MODEL to a folder that has it, or to wordllama.",
    )


def _fingerprint(folder: Path) -> str:
    """Eight hex digits that tell one set of weights from another: names, sizes and first MiB of the weight files."""
    digest = hashlib.sha256()
    files = [path for path in sorted(folder.glob("*")) if path.suffix in {".safetensors", ".bin", ".pt"}]
    if not files:
        raise Misconfigured(f"The folder {folder} holds no model: there are no weights in it.")
    for path in files:
        with path.open("rb") as file:
            digest.update(f"{path.name}:{path.stat().st_size}:".encode() + file.read(1 << 20))
    return digest.hexdigest()[:8]
