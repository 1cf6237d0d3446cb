"""BGE-M3 and bge-reranker through FlagEmbedding's own loading code, on models made here."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from earshot.adapters import bge, rerankers
from earshot.adapters.bge_m3 import SPARSE_WEIGHT, BgeM3Encoder
from earshot.adapters.bge_reranker import BgeReranker
from earshot.adapters.encoders import about
from earshot.adapters.named_encoders import named
from earshot.kernel.errors import Misconfigured, Unavailable
from tests.tiny_bge import SAID, WIDTH, write_cross_encoder, write_m3

TEXTS = [*SAID, "", "!?", "words " * 900]
QUESTION = "what can you do for your country"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_m3(tmp_path_factory.mktemp("models") / "Tiny-M3")


@pytest.fixture(scope="module")
def encoder(folder) -> BgeM3Encoder:
    return BgeM3Encoder(folder, device="cpu")


@pytest.fixture(scope="module")
def reranker(tmp_path_factory) -> BgeReranker:
    return BgeReranker(write_cross_encoder(tmp_path_factory.mktemp("models") / "tiny-reranker"), device="cpu")


@pytest.fixture(scope="module")
def library(folder):
    """The same folder, by FlagEmbedding alone."""
    from FlagEmbedding import BGEM3FlagModel

    model = BGEM3FlagModel(str(folder), use_fp16=False, devices="cpu")
    yield model
    model.model = None  # its destructor moves it, at a time of its choosing


async def test_vectors_are_those_of_the_library_and_of_unit_length(encoder, library):
    assert (encoder.dimensions, encoder.device.name) == (WIDTH, "cpu")
    vectors = await encoder.encode_passages(TEXTS)
    wanted = library.encode(TEXTS, batch_size=100, max_length=bge.MAX_TOKENS)["dense_vecs"]
    np.testing.assert_allclose(vectors, wanted, atol=1e-5)
    for vector in vectors:
        assert math.isclose(sum(number * number for number in vector), 1.0, abs_tol=1e-5)


async def test_a_batch_gives_what_one_by_one_gives(encoder, monkeypatch):
    """However the texts are packed: padding is masked everywhere, and places are kept."""
    alone = [(await encoder.encode_passages([text]))[0] for text in TEXTS]
    ranked_alone = [(await encoder.rerank(QUESTION, [text]))[0] for text in TEXTS]
    for budget in (1, 40, 100_000):
        monkeypatch.setattr(bge, "BATCH_TOKENS", budget)
        np.testing.assert_allclose(await encoder.encode_passages(TEXTS), alone, atol=1e-5)
        np.testing.assert_allclose(await encoder.rerank(QUESTION, TEXTS), ranked_alone, atol=1e-5)


async def test_reranking_adds_the_librarys_three_scores(encoder, library):
    made = library.encode([QUESTION, *TEXTS], return_dense=True, return_sparse=True, return_colbert_vecs=True)
    asked, *said = zip(made["dense_vecs"], made["lexical_weights"], made["colbert_vecs"], strict=True)
    wanted = [
        float(asked[0] @ dense)
        + SPARSE_WEIGHT * library.compute_lexical_matching_score(asked[1], lexical)
        + float(library.colbert_score(asked[2], tokens))
        for dense, lexical, tokens in said
    ]
    assert any(library.compute_lexical_matching_score(asked[1], lexical) > 0 for _, lexical, _ in said)
    np.testing.assert_allclose(await encoder.rerank(QUESTION, TEXTS), wanted, atol=1e-4)


async def test_the_cross_encoder_judges_as_the_library_does(reranker, tmp_path_factory):
    from FlagEmbedding import FlagReranker

    texts = SAID  # the library tokenizes twice, which changes what has no words
    model = FlagReranker(str(next(tmp_path_factory.getbasetemp().glob("models*/tiny-reranker"))), devices="cpu")
    wanted = model.compute_score([(QUESTION, text) for text in texts], normalize=True)
    model.model = None
    scores = await reranker.rerank(QUESTION, texts)
    np.testing.assert_allclose(scores, wanted, atol=1e-5)
    assert len(set(scores)) > 1
    assert [(await reranker.rerank(QUESTION, [text]))[0] for text in texts] == pytest.approx(scores, abs=1e-5)


@pytest.mark.parametrize("which", ["encoder", "reranker"])
async def test_nothing_to_judge_has_no_scores_and_the_longest_question_is_cut(which, request):
    model = request.getfixturevalue(which)
    assert await model.rerank(QUESTION, []) == []
    assert len(await model.rerank("why " * 5000, ["because"])) == 1


async def test_no_texts_have_no_vectors(encoder):
    assert await encoder.encode_passages([]) == []


async def test_a_batch_that_does_not_fit_into_memory_is_halved(encoder):
    """Down to one text; that one failing says so as ours, so that the stage waits instead of dying."""
    inputs = [{"input_ids": [0, 2]}] * 5
    sizes = []

    def short_of_memory(batch):
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [len(sizes)] * len(batch)

    made = dict(bge.passes(inputs, short_of_memory))
    assert sorted(made) == [0, 1, 2, 3, 4]
    assert sizes == [5, 2, 3, 1, 2]

    def broken(batch):
        raise RuntimeError("device-side assert triggered")

    with pytest.raises(Unavailable, match="device-side assert"):
        list(bge.passes(inputs, broken))


def test_another_folder_is_another_model(folder, encoder, tmp_path):
    """So the index of one never holds vectors of the other; the same weights under the same name are one."""
    assert encoder.model.startswith("tiny-m3-")
    changed = write_m3(tmp_path / "Tiny-M3")
    (changed / "sparse_linear.pt").write_bytes(b"other")
    assert bge.fingerprint(changed) != bge.fingerprint(folder)


async def test_a_model_without_its_heads_embeds_and_refuses_to_rerank(tmp_path):
    """FlagEmbedding would fill them with random numbers."""
    encoder = BgeM3Encoder(write_m3(tmp_path / "bare", heads=False), device="cpu")
    assert len(await encoder.encode_query(QUESTION)) == WIDTH
    with pytest.raises(Misconfigured, match=r"colbert_linear\.pt"):
        await encoder.rerank(QUESTION, ["text"])


def test_a_broken_folder_is_refused_in_one_sentence(tmp_path):
    folder = write_m3(tmp_path / "broken")
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(Misconfigured, match="holds no model that loads"):
        BgeM3Encoder(folder, device="cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="only where there is no GPU")
def test_a_gpu_that_is_not_there_is_replaced_by_the_cpu_with_the_reason(folder):
    encoder = BgeM3Encoder(folder, device="cuda:0")
    assert encoder.device.name == "cpu"
    assert "EARSHOT_EMBEDDER__DEVICE asks for cuda:0" in encoder.device.reason
    engine = about(encoder)["engine"]
    assert (engine["device"], engine["degraded"], engine["reason"]) == ("cpu", True, encoder.device.reason)


async def test_the_settings_lead_to_one_copy_of_the_weights_for_both(folder, monkeypatch):
    """The reranker is the encoder of the index that serves, where it names the same model."""
    monkeypatch.setenv("EARSHOT_RERANKER__MODEL", str(folder))
    monkeypatch.setenv("EARSHOT_RERANKER__TIMEOUT_S", "60")
    reranker = rerankers.choose()
    scores = await reranker.rerank(QUESTION, SAID)
    assert await reranker._loading is named(str(folder))
    assert scores == await named(str(folder)).rerank(QUESTION, SAID)
