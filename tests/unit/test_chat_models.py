"""Models on other servers: what they are asked, what of their answers is taken, and what they may cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from datetime import date

import pytest

from earshot.adapters.breaker import Breaker
from earshot.adapters.catalog import Catalog
from earshot.adapters.chat_anthropic import AnthropicChat
from earshot.adapters.chat_models import MeteredModel, choose
from earshot.adapters.chat_openai import OpenAIChat
from earshot.kernel.errors import EarshotError, EngineRejected, Misconfigured, Unavailable
from earshot.kernel.ports.answers import ChatMessage, ChatModel, Spent, Usage
from tests import fakes_chat
from tests.answering import anthropic, openai
from tests.fakes_catalog import new_catalog
from tests.fakes_chat import ModelServer, breaks_off, errs, fails, says
from tests.waiting import eventually

ASKED = [ChatMessage("system", "Be brief."), ChatMessage("user", "What?")]
DAY = date(2026, 11, 21)


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with fakes_chat.running() as running:
        yield running


@pytest.fixture
async def catalog(tmp_path) -> AsyncIterator[Catalog]:
    catalog = await new_catalog(tmp_path)
    yield catalog
    await catalog.close()


@pytest.fixture(params=["openai", "anthropic"])
async def model(request, server) -> AsyncIterator[ChatModel]:
    made = OpenAIChat(openai(server.url)) if request.param == "openai" else AnthropicChat(anthropic(server.url))
    yield made
    await made.close()


async def told(model: ChatModel, tenant: str = "t") -> tuple[str, Usage]:
    async with aclosing(model.stream(ASKED, 50, tenant)) as pieces:
        *texts, usage = [piece async for piece in pieces]
    assert isinstance(usage, Usage)
    return "".join(str(text) for text in texts), usage


async def test_an_answer_comes_in_pieces_with_what_it_used(model, server):
    server.script = [says("We ship on Friday — “soon”.", tokens=(42, 7))]
    assert await told(model) == ("We ship on Friday — “soon”.", Usage(42, 7))
    server.script = [says("Too long", why="max_tokens" if model.provider == "anthropic" else "length")]
    assert (await told(model))[1].cut_short


async def test_each_provider_is_asked_in_its_own_way(server):
    chat, messages = OpenAIChat(openai(server.url, temperature=0)), AnthropicChat(anthropic(server.url))
    await told(chat)
    await told(messages)
    first, second = server.asked
    assert first["path"] == "/v1/chat/completions"
    assert [message["role"] for message in first["messages"]] == ["system", "user"]
    assert (first["max_tokens"], first["temperature"], first["stream"]) == (50, 0, True)
    assert second["path"] == "/v1/messages"
    assert (second["system"], second["messages"]) == ("Be brief.", [{"role": "user", "content": "What?"}])
    assert server.headers[1]["x-api-key"] == "sk-1"
    assert "Authorization" not in server.headers[1]
    await chat.close()
    await messages.close()


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (breaks_off("We ship"), Unavailable),
        (fails(500), Unavailable),
        (fails(429, Retry_After="3600"), Unavailable),
        (fails(400), EngineRejected),
        (fails(401), Misconfigured),
        (fails(404), Misconfigured),
        (errs, Unavailable),
    ],
)
async def test_what_is_no_whole_answer_is_an_error(model, server, reply, error):
    server.script = [reply]
    with pytest.raises(error):
        await told(model)


async def test_a_server_that_is_busy_is_asked_again_and_one_that_broke_off_is_not(server):
    chat = OpenAIChat(openai(server.url, tries=3))
    server.script = [fails(503), fails(429), says("At last.")]
    assert (await told(chat))[0] == "At last."
    server.script = [breaks_off("Half"), says("Never asked")]
    with pytest.raises(Unavailable, match="breaks the answer off"):
        await told(chat)
    assert len(server.script) == 1
    await chat.close()


async def test_a_server_that_is_silent_in_the_middle_is_given_up(server):
    chat = OpenAIChat(openai(server.url, idle_s=0.2))
    server.script = [fakes_chat.slowly]
    with pytest.raises(Unavailable, match="too long"):
        await told(chat)
    await chat.close()


async def test_a_server_that_fails_again_and_again_is_left_alone(server):
    chat = OpenAIChat(openai(server.url), Breaker(failures=2, rest_s=60))
    server.script = [fails(500), breaks_off("x"), says("Not reached")]
    for _ in range(3):
        with pytest.raises(Unavailable):
            await told(chat)
    assert len(server.script) == 1
    await chat.close()


async def test_closing_the_answer_ends_the_request(server):
    chat = OpenAIChat(openai(server.url))
    server.script = [fakes_chat.slowly]
    pieces = chat.stream(ASKED, 50, "t")
    assert await anext(pieces) == "We ship on Friday [1]. "
    await pieces.aclose()
    server.going_on.set()
    await eventually(server.gone.is_set)
    await chat.close()


# --- limits -----------------------------------------------------------------------------------------------------


async def test_a_days_tokens_are_all_there_is_and_cost_is_kept(server, catalog):
    settings = openai(server.url, tokens_a_day=130, price_in=2.0, price_out=10.0)
    chat = MeteredModel(OpenAIChat(settings), settings, catalog, lambda: DAY)
    server.otherwise = says("Yes.", tokens=(60, 5))
    await told(chat)
    assert await catalog.spent("openai", DAY) == Spent(65, 60 * 2 + 5 * 10)
    await told(chat)
    with pytest.raises(Unavailable, match="limit of openai for today"):  # 130 are gone, an answer may use 50 and more
        await told(chat)
    assert len(server.asked) == 2
    tomorrow = MeteredModel(OpenAIChat(settings), settings, catalog, lambda: date(2026, 11, 22))
    await told(tomorrow)
    await chat.close()
    await tomorrow.close()


async def test_one_tenant_cannot_use_up_the_share_of_another(server, catalog):
    settings = openai(server.url, tenant_tokens_a_day=100)
    chat = MeteredModel(OpenAIChat(settings), settings, catalog, lambda: DAY)
    server.otherwise = says("Yes.", tokens=(80, 10))
    await told(chat, "greedy")
    with pytest.raises(Unavailable):
        await told(chat, "greedy")
    assert (await told(chat, "modest"))[0] == "Yes."
    await chat.close()


async def test_answers_at_the_same_time_do_not_pass_a_limit_together(server, catalog):
    settings = openai(server.url, cost_a_day=0.0005, price_out=5.0)  # two answers of 50 tokens cost 0.0005
    chat = MeteredModel(OpenAIChat(settings), settings, catalog, lambda: DAY)
    server.otherwise = says("Yes.", tokens=(10, 50))
    outcomes = await asyncio.gather(*(told(chat) for _ in range(6)), return_exceptions=True)
    assert sum(isinstance(outcome, tuple) for outcome in outcomes) == 2
    assert (await catalog.spent("openai", DAY)).cost == 500
    await chat.close()


async def test_what_a_provider_refuses_costs_nothing_and_what_it_began_does(server, catalog):
    settings = openai(server.url, tokens_a_day=10_000)
    chat = MeteredModel(OpenAIChat(settings), settings, catalog, lambda: DAY)
    server.script = [fails(500)]
    with pytest.raises(EarshotError):
        await told(chat)
    assert await catalog.spent("openai", DAY) == Spent()
    server.script = [breaks_off("Half an answer")]
    with pytest.raises(EarshotError):
        await told(chat)
    assert 0 < (await catalog.spent("openai", DAY)).tokens < 50
    await chat.close()


async def test_providers_are_chosen_by_their_settings(monkeypatch, catalog):
    assert choose("", catalog) == []
    monkeypatch.setenv("EARSHOT_ANSWERS__ANTHROPIC__MODEL", "claude")
    monkeypatch.setenv("EARSHOT_ANSWERS__ANTHROPIC__URL", "https://api.anthropic.com")
    monkeypatch.setenv("EARSHOT_ANSWERS__OPENAI__MODEL", "llama")
    with pytest.raises(Misconfigured, match="openai has no URL"):
        choose("", catalog)
    monkeypatch.setenv("EARSHOT_ANSWERS__OPENAI__URL", "http://127.0.0.1:1/v1")
    assert [model.provider for model in choose("", catalog)] == ["openai", "anthropic"]
    assert [model.provider for model in choose("anthropic,openai", catalog)] == ["anthropic", "openai"]
    assert choose("none", catalog) == []
    with pytest.raises(Misconfigured, match="mystery"):
        choose("mystery", catalog)
