"""One contract for every embedding model that can be had here."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from earshot.adapters.bge_m3 import BgeM3Encoder
from earshot.adapters.encoders import EncoderSettings, choose
from earshot.kernel.errors import Misconfigured
from earshot.kernel.ports import Encoder
from tests.fakes_vectors import FakeEncoder

TEXTS = [
    "ask what you can do for your country",
    "the dashwoods had long been settled in sussex",
    "",
    "!?",
    "日本語",
    "a" * 9000,
]


@pytest.fixture(params=["fake", "wordllama"])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    return FakeEncoder() if request.param == "fake" else choose(EncoderSettings(model="wordllama"))


async def test_vectors_have_the_models_dimensions_and_unit_length(encoder: Encoder) -> None:
    """Whatever the text, also one without a single token."""
    vectors = await encoder.encode_passages(TEXTS)
    assert len(vectors) == len(TEXTS)
    for vector in vectors:
        assert len(vector) == encoder.dimensions
        assert math.isclose(sum(number * number for number in vector), 1.0, abs_tol=1e-5)


async def test_a_text_has_one_vector(encoder: Encoder) -> None:
    """To the last bit: alone or beside others, first or last, so that a replayed event is the same event."""
    together = await encoder.encode_passages(TEXTS)
    assert await encoder.encode_passages(TEXTS[::-1]) == together[::-1]
    for text, vector in zip(TEXTS, together, strict=True):
        assert await encoder.encode_passages([text]) == [vector]


async def test_a_question_is_near_the_passage_that_answers_it(encoder: Encoder) -> None:
    question = await encoder.encode_query("what can you do for the country")
    near, far = (
        sum(a * b for a, b in zip(question, vector, strict=True))
        for vector in (await encoder.encode_passages(TEXTS))[:2]
    )
    assert near > far


async def test_no_texts_have_no_vectors(encoder: Encoder) -> None:
    assert await encoder.encode_passages([]) == []


def test_a_model_is_loaded_once() -> None:
    assert choose(EncoderSettings(model="wordllama")) is choose(EncoderSettings(model="wordllama"))


def test_a_model_that_does_not_exist_is_refused_in_one_sentence(tmp_path: Path) -> None:
    """Before anything heavy is imported; so is a folder without weights."""
    with pytest.raises(Misconfigured, match="neither wordllama, minilm, bge-m3 nor a folder"):
        choose(EncoderSettings(model="word2vec"))
    with pytest.raises(Misconfigured, match="no weights"):
        BgeM3Encoder(tmp_path)
