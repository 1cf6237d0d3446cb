"""OpenAI's own client against ``/v1``, over a real socket; and clients that go away in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import httpx
import openai
import pytest

from tests import fakes_chat
from tests.answering import Asking, asking, served
from tests.fakes_chat import ModelServer, breaks_off, says
from tests.waiting import eventually

SHIPPING = ("Ada: We ship the remote control on Friday.", "Bob: The budget is twelve thousand euros.")


@pytest.fixture
async def system(tmp_path) -> AsyncIterator[Asking]:
    async with asking(tmp_path) as running:
        yield running


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with fakes_chat.running() as running:
        yield running


@pytest.fixture
async def origin(system) -> AsyncIterator[str]:
    async with served(system) as url:
        yield url


@pytest.fixture
async def client(origin) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{origin}/v1", api_key="none is needed here", max_retries=0) as made:
        yield made


def user(text: str) -> list:
    return [{"role": "user", "content": text}]


async def test_a_chat_is_answered_from_the_collection_that_is_its_model(system, client, origin):
    recording = await system.say(*SHIPPING, collection="weekly")
    await system.say("Eve: The budget is one euro.", collection="other")
    models = [model.id async for model in client.models.list()]
    assert models == ["earshot", "other", "weekly"]
    assert (await client.models.retrieve("weekly")).owned_by == "earshot"
    answer = await client.chat.completions.create(model="weekly", messages=user("What is the budget?"))
    message = answer.choices[0].message
    assert message.content == (
        "Bob said: “The budget is twelve thousand euros.” [1]\n\n"
        f"[1] Weekly, Bob, 0:20 {origin}/api/v1/recordings/{recording}/audio#t=20.0,23.0"
    )
    assert answer.choices[0].finish_reason == "stop"
    (noted,) = message.annotations or []
    assert noted.url_citation.url.endswith("/audio#t=20.0,23.0")
    assert (answer.model_extra or {})["earshot"]["citations"][0]["recording_id"] == recording
    everything = await client.chat.completions.create(model="earshot", messages=user("What is the budget?"))
    assert "one euro" in (everything.choices[0].message.content or "")


async def test_a_chat_streams_and_leans_on_what_was_said_before(system, client, server):
    await system.say(*SHIPPING)
    system.use(system.model(server.url))
    server.script = [says("When do we ship the remote control?"), says('Ada: "we ship" [1][9].', tokens=(30, 4))]
    messages = [
        {"role": "system", "content": "You are a pirate."},
        *user("What is the remote control?"),
        {"role": "assistant", "content": "Something we ship [1]."},
        {"role": "user", "content": [{"type": "text", "text": "And when?"}]},
    ]
    chat = {"model": "earshot", "messages": messages, "stream_options": {"include_usage": True}}
    stream = await client.chat.completions.create(stream=True, **chat)
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.startswith('Ada: "we ship" [1].\n\n[1] Weekly, Ada, 0:00 http')
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 34
    assert "pirate" not in str(server.asked)
    assert "What is the remote control?" in server.asked[0]["messages"][1]["content"]


async def test_a_stream_that_begins_anew_says_so_where_nothing_can_be_taken_back(system, client, server):
    await system.say(*SHIPPING)
    system.use(system.model(server.url))
    server.script = [breaks_off("The budget is a million [1]. ")]
    stream = await client.chat.completions.create(model="earshot", messages=user("What is the budget?"), stream=True)
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
    assert "What stands above is void." in text
    assert text.index("million") < text.index("void") < text.index("twelve thousand")


async def test_errors_are_in_the_shape_that_clients_know(client):
    with pytest.raises(openai.NotFoundError) as unknown:
        await client.chat.completions.create(model="nowhere", messages=user("What?"))
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("nowhere")
    with pytest.raises(openai.BadRequestError) as silent:
        await client.chat.completions.create(model="earshot", messages=[{"role": "assistant", "content": "x"}])
    assert silent.value.code == "no_question"
    with pytest.raises(openai.BadRequestError) as long:
        await client.chat.completions.create(model="earshot", messages=user("x" * 2001))
    assert long.value.code == "question_too_long"
    with pytest.raises(openai.UnprocessableEntityError) as two:
        await client.chat.completions.create(model="earshot", messages=user("x"), n=2)
    assert two.value.type == "invalid_request_error"
    with pytest.raises(openai.APIStatusError) as large:
        await client.chat.completions.create(model="earshot", messages=user("x"), user="x" * 2_000_000)
    assert (large.value.status_code, large.value.code) == (413, "too_large")


@pytest.mark.parametrize("path", ["/api/v1/answers", "/v1/chat/completions"])
@pytest.mark.parametrize("stream", [True, False])
async def test_when_the_client_goes_away_the_model_is_not_asked_any_longer(system, origin, server, path, stream):
    """Not because the model is too slow: that would take longer than this test waits."""
    await system.say(*SHIPPING)
    system.use(system.model(server.url, timeout_s=300, idle_s=300), deadline_s=300)
    server.script = [fakes_chat.slowly]
    question = {"question": "What is the budget?"}
    body = {"stream": stream, **(question if "api" in path else {"model": "earshot", "messages": user("Budget?")})}
    async with httpx.AsyncClient(base_url=origin, timeout=None) as http:
        if stream:
            async with http.stream("POST", path, json=body) as answer:
                lines = answer.aiter_lines()
                while "Friday" not in await anext(lines):
                    pass
        else:
            posting = asyncio.create_task(http.post(path, json=body))
            await eventually(lambda: server.asked)
            posting.cancel()
            await asyncio.gather(posting, return_exceptions=True)
    await eventually(lambda: system.app.state.answers.open == 0)
    server.going_on.set()
    await eventually(server.gone.is_set)
