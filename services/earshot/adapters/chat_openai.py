"""Answers from any server that speaks OpenAI's ``/v1/chat/completions``: vLLM, Ollama, llama.cpp, OpenAI itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from earshot.adapters.breaker import Breaker
from earshot.adapters.chat_settings import OPENAI, OpenAISettings, estimated, most_bytes
from earshot.adapters.remote import check
from earshot.adapters.remote_stream import StreamingEndpoint, field, tokens
from earshot.kernel.ports.answers import ChatMessage, Usage


class OpenAIChat:
    """A model behind Chat Completions. Nothing is asked before there is a question.

    Args:
        settings: where it is; its URL ends before ``/chat/completions``.
        breaker: by default one of its own.

    Raises:
        Misconfigured: a setting is missing.
    """

    provider = "openai"

    def __init__(self, settings: OpenAISettings, breaker: Breaker | None = None) -> None:
        check(settings, settings.model, OPENAI)
        self.model = settings.model
        self._settings = settings
        self._endpoint = StreamingEndpoint(
            "model", "/chat/completions", settings, OPENAI, idle_s=settings.idle_s, breaker=breaker
        )

    async def stream(
        self,
        messages: Sequence[ChatMessage],
        max_tokens: int,
        tenant: str,  # noqa: ARG002 - the port's; what is sent says nothing of who asks
    ) -> AsyncGenerator[str | Usage, None]:
        """The answer in pieces, then its usage. As in :class:`earshot.kernel.ports.answers.ChatModel`."""
        ended, said, usage = "", "", None
        async with aclosing(self._endpoint.events(self._body(messages, max_tokens), most_bytes(max_tokens))) as events:
            async for event in events:
                if field(event, "error") is not None:
                    self._endpoint.judged(whole=False)
                    raise self._endpoint.unavailable("breaks the answer off with an error")
                text = field(event, "choices", 0, "delta", "content")
                if isinstance(text, str) and text:
                    said += text
                    yield text
                ended = str(field(event, "choices", 0, "finish_reason") or ended)
                usage = _usage(field(event, "usage")) or usage
        if not ended:
            self._endpoint.judged(whole=False)
            raise self._endpoint.unavailable("breaks the answer off")
        self._endpoint.judged(whole=True)
        got, given = usage or (estimated(*(message.content for message in messages)), estimated(said))
        yield Usage(got, given, counted=usage is not None, cut_short=ended == "length")

    async def close(self) -> None:
        """Close the connections."""
        await self._endpoint.close()

    def _body(self, messages: Sequence[ChatMessage], max_tokens: int) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            self._settings.max_tokens_field: max_tokens,
        }
        return body if self._settings.temperature is None else body | {"temperature": self._settings.temperature}


def _usage(given: Any) -> tuple[int, int] | None:
    """Tokens in and out; ``None`` where the server does not say."""
    got, made = tokens(field(given, "prompt_tokens")), tokens(field(given, "completion_tokens"))
    return None if got is None or made is None else (got, made)
