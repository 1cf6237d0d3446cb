"""all-MiniLM-L6-v2 without torch gives the vectors that it gives with torch."""

from __future__ import annotations

import numpy as np
import pytest

from earshot.adapters.minilm import MAX_TOKENS, PACKAGE, MiniLmEncoder

TEXTS = ["", "Ask not what your country can do for you.", "naïve café, 東京?", "word " * (MAX_TOKENS + 50)]


async def test_vectors_are_those_of_sentence_transformers():
    """Of no text, of common and uncommon letters, and of more than fits."""
    package = pytest.importorskip(PACKAGE)
    models = pytest.importorskip("sentence_transformers")
    wanted = models.SentenceTransformer(str(package.MODEL_DIR), device="cpu").encode(TEXTS, normalize_embeddings=True)
    made = np.array(await MiniLmEncoder().encode_passages(TEXTS))
    np.testing.assert_allclose(made, wanted, atol=1e-5)
    assert np.array_equal(await MiniLmEncoder().encode_query(TEXTS[1]), made[1])
