"""The remote embedder and the remote reranker against a small server over real HTTP, well behaved and hostile."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
import stamina
from pydantic import SecretStr

from earshot.adapters.breaker import Breaker
from earshot.adapters.encoders import EncoderSettings, choose
from earshot.adapters.remote import Pace, RemoteSettings
from earshot.adapters.remote_embedder import RemoteEncoder
from earshot.adapters.remote_reranker import RemoteReranker
from earshot.kernel.errors import EngineRejected, Misconfigured, Unavailable
from tests.fakes_remote import RemoteServer, answer, changed, cut_short, running

KEY = "sk-very-secret"
TEXTS = ["ask what you can do", "for your country", "", "日本語"]
QUESTION = "what can you do"


@pytest.fixture(autouse=True)
def no_backoff() -> Iterator[None]:
    """Retries as in production, without the waits between them."""
    with stamina.set_testing(True, attempts=10, cap=True):
        yield


@pytest.fixture
def server() -> Iterator[RemoteServer]:
    with running() as server:
        yield server


def settings(server: RemoteServer, path: str, **more: object) -> RemoteSettings:
    given = {"url": server.url + path, "api_key": SecretStr(KEY), "timeout_s": 5.0, **more}
    return RemoteSettings.model_validate(given)


@pytest.fixture
async def encoder(server) -> AsyncIterator[RemoteEncoder]:
    encoder = RemoteEncoder(settings(server, "/v1"), "any/model", 8, batch_texts=3, breaker=Breaker(failures=100))
    yield encoder
    await encoder.close()


@pytest.fixture
async def reranker(server) -> AsyncIterator[RemoteReranker]:
    reranker = RemoteReranker(settings(server, "/v2"), "any/model", Breaker(failures=100))
    yield reranker
    await reranker.close()


@pytest.fixture(params=["encoder", "reranker"])
def engine(request):
    """A call of either, which must fail or give a result of the right size."""
    made = request.getfixturevalue(request.param)
    return (lambda: made.encode_passages(TEXTS[:3])) if request.param == "encoder" else lambda: made.rerank("q", TEXTS)


async def test_vectors_come_in_order_at_unit_length_and_in_batches(server, encoder):
    """Though the server sends them backwards and longer; the key goes into its header and nowhere else."""
    vectors = await encoder.encode_passages(TEXTS)
    wanted = await server.encoder.encode_passages([text or " " for text in TEXTS])
    for vector, right in zip(vectors, wanted, strict=True):
        assert vector == pytest.approx(right)
        assert math.isclose(sum(number * number for number in vector), 1.0, abs_tol=1e-6)
    assert [len(asked["input"]) for asked in server.asked] == [3, 1]
    assert {asked["model"] for asked in server.asked} == {"any/model"}
    assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    assert await encoder.encode_query(TEXTS[0]) == pytest.approx(vectors[0])


async def test_scores_come_in_the_order_of_the_texts(server, reranker):
    assert await reranker.rerank(QUESTION, TEXTS) == [4.0, 0.0, 0.0, 0.0]
    assert await reranker.rerank(QUESTION, []) == []
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
async def test_a_busy_server_is_asked_again(server, engine, status):
    server.script = [answer(status, {"error": "busy"}, Retry_After="1"), answer(status)]
    assert len(await engine()) in (3, 4)
    assert len(server.asked) == 3


async def test_a_busy_server_is_not_asked_for_ever(server, engine):
    server.script = [answer(503)] * 5
    with pytest.raises(Unavailable, match="answers 503"):
        await engine()
    assert len(server.asked) == 3


async def test_a_server_that_asks_for_hours_is_not_waited_for(server, engine):
    server.script = [answer(429, Retry_After="7200")]
    with pytest.raises(Unavailable, match="answers 429"):
        await engine()
    assert len(server.asked) == 1


async def test_an_answer_that_breaks_off_is_asked_for_again(server, engine):
    server.script = [cut_short, cut_short]
    assert len(await engine()) in (3, 4)


async def test_a_server_that_hangs_is_given_up(server, engine, encoder, reranker):
    """Also one that sends a byte now and then: the limit is for the whole answer."""
    done = threading.Event()

    def drip(handler, body):
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        while not done.wait(0.02):
            handler.wfile.write(b" ")

    for made in (encoder, reranker):
        made._endpoint._settings = made._endpoint._settings.model_copy(update={"timeout_s": 0.2, "tries": 1})
    server.script = [drip]
    try:
        with pytest.raises(Unavailable, match="too long"):
            await engine()
    finally:
        done.set()


async def test_a_server_that_is_not_there_is_unavailable(server, engine):
    server.shutdown()
    server.server_close()
    with pytest.raises(Unavailable, match="does not answer: ConnectError"):
        await engine()


@pytest.mark.parametrize(
    ("status", "error", "match"),
    [
        (401, Misconfigured, "API_KEY"),
        (403, Misconfigured, "API_KEY"),
        (404, Misconfigured, "URL"),
        (302, Misconfigured, "URL"),
        (400, EngineRejected, "refuses"),
        (413, EngineRejected, "refuses"),
        (422, EngineRejected, "refuses"),
    ],
)
async def test_a_refusal_is_not_tried_again_and_never_repeats_the_key(server, engine, status, error, match):
    server.script = [answer(status, {"error": f"bad key {KEY}"}, Location="http://127.0.0.1:9/")]
    with pytest.raises(error, match=match) as raised:
        await engine()
    assert len(server.asked) == 1
    assert KEY not in str(raised.value)


def row(answer):
    """The first row of either answer."""
    return (answer.get("data") or answer.get("results"))[0]


def with_number(number):
    """The right answer with one number of it replaced."""

    def change(answer):
        if "data" in answer:
            row(answer)["embedding"][3] = number
        else:
            row(answer)["relevance_score"] = number
        return answer

    return change


JUNK = {
    "no JSON": answer(200, b"<html>hello</html>"),
    "empty": answer(200, b""),
    "deep": answer(200, b"[" * 50_000),
    "a list": answer(200, []),
    "null": answer(200, b"null"),
    "no rows": answer(200, {}),
    "rows that are none": answer(200, {"data": [1, 2, 3], "results": [1, 2, 3, 4]}),
    "a row too few": changed(lambda right: {name: rows[1:] for name, rows in right.items()}),
    "one place twice": changed(lambda right: (row(right).update(index=1), right)[1]),
    "a place outside": changed(lambda right: (row(right).update(index=9), right)[1]),
    "a place that is a list": changed(lambda right: (row(right).update(index=[0]), right)[1]),
    "a place that is true": changed(lambda right: (row(right).update(index=True), right)[1]),
    "NaN": changed(with_number(math.nan)),
    "infinity": changed(with_number(math.inf)),
    "an integer beyond floats": changed(with_number(10**400)),
    "a number in quotes": changed(with_number("0.5")),
    "true for a number": changed(with_number(True)),
    "no number": changed(with_number(None)),
    "compressed": answer(200, b"\x1f\x8b\x08", Content_Encoding="gzip"),
    "a bomb": answer(200, b" " * 2_000_000 + b"{}"),
}


@pytest.mark.parametrize("name", JUNK)
async def test_junk_is_never_believed(server, engine, name):
    """Whatever the server sends, the error is ours, and one that may pass."""
    server.script = [JUNK[name]]
    with pytest.raises(Unavailable):
        await engine()
    assert len(server.asked) == 1


@pytest.mark.parametrize("vector", [[0.0] * 8, []])
async def test_a_vector_without_direction_is_junk(server, encoder, vector):
    server.script = [answer(200, {"data": [{"index": 0, "embedding": vector}]})]
    with pytest.raises(Unavailable):
        await encoder.encode_query("text")


async def test_vectors_of_other_dimensions_stop_the_worker(server, encoder):
    """They would belong into another index."""
    server.script = [answer(200, {"data": [{"index": 0, "embedding": [1.0] * 7}]})]
    with pytest.raises(Misconfigured, match="have 7 dimensions, not 8"):
        await encoder.encode_query("text")


async def test_a_server_that_fails_again_and_again_is_left_alone_for_a_while(server):
    now = [0.0]
    breaker = Breaker(failures=2, rest_s=60, clock=lambda: now[0])
    encoder = RemoteEncoder(settings(server, "/v1", tries=1), "m", 8, breaker=breaker)
    server.script = [answer(503), answer(200, b"junk")]
    for _ in range(4):
        with pytest.raises(Unavailable):
            await encoder.encode_query("text")
    assert len(server.asked) == 2
    now[0] = 61
    assert len(await encoder.encode_query("text")) == 8
    await encoder.close()


async def test_requests_keep_their_pace_and_never_queue_for_longer_than_an_answer_may_take():
    pace = Pace(per_s=0.001)
    assert await pace.turn(within_s=1)
    assert not await pace.turn(within_s=1)
    free = Pace(per_s=0)
    assert [await free.turn(within_s=0) for _ in range(3)] == [True] * 3


async def test_what_a_setting_lacks_is_said_before_anything_is_asked(server):
    good = settings(server, "/v1")
    with pytest.raises(Misconfigured, match="DIMENSIONS"):
        RemoteEncoder(good, "model", 0)
    with pytest.raises(Misconfigured, match="RERANKER__MODEL"):
        RemoteReranker(good, "")
    with pytest.raises(Misconfigured, match="EMBEDDER__MODEL"):
        choose(EncoderSettings(url=server.url, dimensions=8))
    with pytest.raises(Misconfigured, match="API_KEY") as raised:
        RemoteReranker(good.model_copy(update={"url": f"http://me:{KEY}@localhost/v2"}), "model")
    assert KEY not in str(raised.value)
    assert KEY not in repr(good)
    assert server.asked == []


def test_a_remote_model_has_an_index_of_its_own(server):
    """Even under the name of a model of this machine."""
    chosen = choose(EncoderSettings(url=f"{server.url}/v1", model="bge-m3", dimensions=8))
    assert (chosen.model, chosen.dimensions) == ("remote-bge-m3", 8)
    assert json.dumps(server.asked) == "[]"
