"""Late interaction over WordLlama's token vectors: a reranker without torch, a download or a GPU.

ColBERT's score (Khattab and Zaharia, SIGIR 2020) on vectors that do not depend on context: each token of the question
looks for the token of the passage that is most like it, so a word may be said in another form or another word, which
the mean of all tokens blurs. Tokens that few of the passages have weigh more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from earshot.adapters.wordllama import DIMENSIONS, MAX_CHARACTERS, loaded
from earshot.kernel.question import read

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[np.float32]]


class WordLlamaReranker:
    """Compares words with words.

    Raises:
        Misconfigured: the package is not installed, or not whole.
    """

    model = "wordllama-l2"

    def __init__(self) -> None:
        import numpy as np

        inference = loaded(max(DIMENSIONS))
        self._tokenizer = inference.tokenizer
        vectors = np.asarray(inference.embedding, dtype=np.float32)
        self._vectors: Array = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)

    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """For each text the mean, over the tokens that carry the question, of the best likeness: at most 1."""
        return await asyncio.to_thread(self._scores, query, texts)

    def _scores(self, query: str, texts: Sequence[str]) -> list[float]:
        import numpy as np

        asked, *said = self._tokens([read(query).keywords, *texts])
        if not len(asked) or not said:
            return [0.0] * len(texts)
        have = np.array([np.isin(asked, tokens) for tokens in said]).sum(axis=0)
        weights = np.log(1 + len(said) / (1 + have))
        wanted = self._vectors[asked]
        likeness = [(wanted @ self._vectors[tokens].T).max(axis=1, initial=0.0) for tokens in said]
        return [float(best @ weights / weights.sum()) for best in likeness]

    def _tokens(self, texts: Sequence[str]) -> list[Array]:
        """Ids of each text's tokens, without the ones that only mark its beginning or fill a batch."""
        import numpy as np

        cut = [text[:MAX_CHARACTERS] for text in texts]
        encoded = self._tokenizer.encode_batch(cut, add_special_tokens=False)
        return [
            np.array([token for token, used in zip(each.ids, each.attention_mask, strict=True) if used], dtype=np.int64)
            for each in encoded
        ]
