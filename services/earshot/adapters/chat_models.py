"""The models that answer, as the settings name them, each within its limits of tokens and cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import UTC, date, datetime

from earshot.adapters.chat_settings import AnthropicSettings, OpenAISettings, ProviderSettings, estimated
from earshot.kernel.errors import EarshotError, Misconfigured, Unavailable
from earshot.kernel.ports.answers import ChatMessage, ChatModel, Spending, SpendingLimit, Spent, Usage
from earshot.kernel.settings import load

MILLION = 1_000_000


class MeteredModel:
    """A model that is asked while its day's limits last.

    What an answer may use at most is reserved before it is asked for and corrected afterwards, so answers at the same
    time do not pass a limit together. What a crash leaves reserved stays counted until the day is over.

    Args:
        model: it.
        settings: prices and limits.
        spending: where it is kept.
        today: the day, in UTC.
    """

    def __init__(
        self, model: ChatModel, settings: ProviderSettings, spending: Spending, today: Callable[[], date] | None = None
    ) -> None:
        self.provider, self.model = model.provider, model.model
        self._inner, self._settings, self._spending = model, settings, spending
        self._today = today or (lambda: datetime.now(UTC).date())
        self._settling: set[asyncio.Future[None]] = set()
        self._limit = SpendingLimit(
            settings.tokens_a_day, settings.tenant_tokens_a_day, round(settings.cost_a_day * MILLION)
        )

    async def stream(
        self, messages: Sequence[ChatMessage], max_tokens: int, tenant: str
    ) -> AsyncGenerator[str | Usage, None]:
        """As :meth:`earshot.kernel.ports.answers.ChatModel.stream`; ``Unavailable`` also when a limit is reached."""
        day, asked = self._today(), estimated(*(message.content for message in messages))
        reserved = self._spent(asked, max_tokens)
        if not await self._spending.reserve(tenant, self.provider, day, reserved, self._limit):
            raise Unavailable(
                "model",
                f"The limit of {self.provider} for today is reached.",
                next_step=f"Wait until tomorrow (UTC), or raise EARSHOT_ANSWERS__{self.provider.upper()}__…_A_DAY.",
            )
        bill = _Bill(asked)
        try:
            async with aclosing(self._inner.stream(messages, max_tokens, tenant)) as pieces:
                async for piece in pieces:
                    bill.add(piece)
                    yield piece
        except EarshotError:
            bill.refused()
            raise
        finally:
            spent = self._spent(*bill.tokens)
            difference = Spent(spent.tokens - reserved.tokens, spent.cost - reserved.cost)
            settling = asyncio.ensure_future(self._spending.settle(tenant, self.provider, day, difference))
            self._settling.add(settling)
            settling.add_done_callback(self._settling.discard)
            await asyncio.shield(settling)  # also when whoever asked has gone away

    async def close(self) -> None:
        """Close the connections."""
        await self._inner.close()

    def _spent(self, tokens_in: int, tokens_out: int) -> Spent:
        # tokens times the price of a million of them is the cost in millionths
        return Spent(
            tokens_in + tokens_out,
            round(tokens_in * self._settings.price_in + tokens_out * self._settings.price_out),
        )


class _Bill:
    """What one answer used: as the provider says, else as far as it came."""

    def __init__(self, asked: int) -> None:
        self._asked, self._said = asked, ""
        self._used: Usage | None = None
        self._free = False

    def add(self, piece: str | Usage) -> None:
        """A piece of the answer, or its usage."""
        if isinstance(piece, Usage):
            self._used = piece
        else:
            self._said += piece

    def refused(self) -> None:
        """The provider failed: what it had not begun costs nothing."""
        self._free = not self._said

    @property
    def tokens(self) -> tuple[int, int]:
        """In and out."""
        if self._used is not None:
            return self._used.input_tokens, self._used.output_tokens
        return (0, 0) if self._free else (self._asked, estimated(self._said))


def choose(providers: str, spending: Spending) -> list[ChatModel]:
    """The models that are asked, in this order.

    Args:
        providers: names with commas between them; empty: every provider that has a model; ``none``: nobody.
        spending: where their costs are kept.

    Raises:
        Misconfigured: a provider is named that is unknown, or that lacks a setting.
    """
    from earshot.adapters.chat_anthropic import AnthropicChat
    from earshot.adapters.chat_openai import OpenAIChat

    known: dict[str, tuple[ProviderSettings, Callable[[], ChatModel]]] = {}
    openai, anthropic = load(OpenAISettings), load(AnthropicSettings)
    known["openai"] = openai, lambda: OpenAIChat(openai)
    known["anthropic"] = anthropic, lambda: AnthropicChat(anthropic)
    named = [name.strip() for name in providers.split(",") if name.strip()]
    if named == ["none"]:
        return []
    if unknown := sorted(set(named) - set(known)):
        raise Misconfigured(
            f"EARSHOT_ANSWERS__PROVIDERS names {', '.join(unknown)}.",
            next_step=f"Use none, or {', '.join(known)}.",
        )
    wanted = named or [name for name, (settings, _) in known.items() if settings.model]
    for name in wanted:
        if not known[name][0].url:
            raise Misconfigured(
                f"The provider {name} has no URL.", next_step=f"Set EARSHOT_ANSWERS__{name.upper()}__URL."
            )
    return [MeteredModel(known[name][1](), known[name][0], spending) for name in wanted]
