"""Answers from Anthropic's Messages API, and from servers that speak it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from earshot.adapters.breaker import Breaker
from earshot.adapters.chat_settings import ANTHROPIC, AnthropicSettings, estimated, most_bytes
from earshot.adapters.remote import check
from earshot.adapters.remote_stream import StreamingEndpoint, field, tokens
from earshot.kernel.ports.answers import ChatMessage, Usage

VERSION = "2023-06-01"
"""Of the interface, as every request must say."""


class AnthropicChat:
    """A model behind the Messages API. Nothing is asked before there is a question.

    Args:
        settings: where it is; its URL ends before ``/v1/messages``.
        breaker: by default one of its own.

    Raises:
        Misconfigured: a setting is missing.
    """

    provider = "anthropic"

    def __init__(self, settings: AnthropicSettings, breaker: Breaker | None = None) -> None:
        check(settings, settings.model, ANTHROPIC)
        self.model = settings.model
        self._settings = settings
        key = settings.api_key.get_secret_value()
        headers = {"anthropic-version": VERSION} | ({"x-api-key": key} if key else {})
        self._endpoint = StreamingEndpoint(
            "model", "/v1/messages", settings, ANTHROPIC, idle_s=settings.idle_s, headers=headers, breaker=breaker
        )

    async def stream(
        self,
        messages: Sequence[ChatMessage],
        max_tokens: int,
        tenant: str,  # noqa: ARG002 - the port's; what is sent says nothing of who asks
    ) -> AsyncGenerator[str | Usage, None]:
        """The answer in pieces, then its usage. As in :class:`earshot.kernel.ports.answers.ChatModel`."""
        got, made, ended, stopped, said = None, None, False, "", ""
        async with aclosing(self._endpoint.events(self._body(messages, max_tokens), most_bytes(max_tokens))) as events:
            async for event in events:
                kind = field(event, "type")
                if kind == "error":
                    self._endpoint.judged(whole=False)
                    raise self._endpoint.unavailable("breaks the answer off with an error")
                text = field(event, "delta", "text") if kind == "content_block_delta" else None
                if isinstance(text, str) and text:
                    said += text
                    yield text
                got = tokens(field(event, "message", "usage", "input_tokens")) or got
                made = tokens(field(event, "usage", "output_tokens")) or made
                stopped = str(field(event, "delta", "stop_reason") or stopped)
                ended = ended or kind == "message_stop"
        if not ended:
            self._endpoint.judged(whole=False)
            raise self._endpoint.unavailable("breaks the answer off")
        self._endpoint.judged(whole=True)
        counted = got is not None and made is not None
        asked = estimated(*(message.content for message in messages))
        yield Usage(got or asked, made or estimated(said), counted=counted, cut_short=stopped == "max_tokens")

    async def close(self) -> None:
        """Close the connections."""
        await self._endpoint.close()

    def _body(self, messages: Sequence[ChatMessage], max_tokens: int) -> dict[str, Any]:
        system = "\n\n".join(message.content for message in messages if message.role == "system")
        said = [{"role": each.role, "content": each.content} for each in messages if each.role != "system"]
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": max_tokens,
            "system": system,
            "messages": said,
            "stream": True,
        }
        return body if self._settings.temperature is None else body | {"temperature": self._settings.temperature}
