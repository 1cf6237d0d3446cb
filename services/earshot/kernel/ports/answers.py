"""Models that answer, what they may cost, and the conversations they answer in."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal, Protocol

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class ChatMessage:
    """One message to a model."""

    role: Role
    content: str


@dataclass(frozen=True)
class Usage:
    """Tokens of one answer.

    Attributes:
        counted: ``False`` where the provider did not say, and they are estimated.
        cut_short: the answer ended because it may not be longer.
    """

    input_tokens: int
    output_tokens: int
    counted: bool = True
    cut_short: bool = False


class ChatModel(Protocol):
    """A model on some server.

    Attributes:
        provider: short name: ``openai``, ``anthropic``.
        model: its name there.
    """

    provider: str
    model: str

    def stream(
        self, messages: Sequence[ChatMessage], max_tokens: int, tenant: str
    ) -> AsyncGenerator[str | Usage, None]:
        """The answer in pieces as they come, and what it used as the last of them.

        Closing the generator ends the request.

        Args:
            messages: a system message first, if any.
            max_tokens: the longest answer.
            tenant: who pays.

        Raises:
            Unavailable: ``("model", …)``: it does not answer, breaks off, is too slow, is busy, or is left alone.
            EngineRejected: it refuses the messages.
            Misconfigured: it refuses us, or there is nothing at its URL.
        """

    async def close(self) -> None:
        """Close the connections."""


@dataclass(frozen=True)
class Spent:
    """What was used of a provider on one day. ``cost`` is in millionths of the currency of the prices."""

    tokens: int = 0
    cost: int = 0


@dataclass(frozen=True)
class SpendingLimit:
    """At most so much of a provider on one day; 0 does not limit.

    Attributes:
        tokens: of all tenants, in and out.
        tenant_tokens: of one tenant.
        cost: of all tenants, in millionths of the currency of the prices.
    """

    tokens: int = 0
    tenant_tokens: int = 0
    cost: int = 0


class Spending(Protocol):
    """What each provider has cost on which day, kept where every process of the service sees it."""

    async def reserve(self, tenant: str, provider: str, day: date, wanted: Spent, limit: SpendingLimit) -> bool:
        """Take so much of the day's limits; ``False``, with nothing taken, when one would be passed."""

    async def settle(self, tenant: str, provider: str, day: date, difference: Spent) -> None:
        """Correct what was reserved by what was used; differences may be negative."""


@dataclass(frozen=True)
class AnswerRow:
    """An answer as it is kept.

    Attributes:
        conversation_id: ``None`` when it belongs to none.
        kind: what became of the question: ``answered``, ``no_evidence``, ``declined``, …
        rewritten: what was looked for in place of the question; empty when it was taken as asked.
        body: the answer as JSON; empty when it is not kept, and once a recording it rests on was erased.
        prompt: name of the prompt's version, with ``prompt_hash``; empty without a model.
        recordings: those whose words it contains.
    """

    tenant: str
    id: str
    conversation_id: str | None
    kind: str
    question: str
    rewritten: str
    body: str
    provider: str
    prompt: str
    prompt_hash: str
    created_at: datetime
    recordings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Conversation:
    """Questions and answers that belong together."""

    tenant: str
    id: str
    title: str
    answers: int
    created_at: datetime
    updated_at: datetime


class Conversations(Protocol):
    """Answers and their conversations, each of one tenant. Raises ``Unavailable("catalog", …)``."""

    async def keep_answer(self, answer: AnswerRow, title: str, most: int) -> None:
        """Keep an answer; its conversation is made when it is new.

        An answer that rests on a recording that is erased by now loses its text at once.

        Raises:
            Permanent: code ``conversation_full``: it has ``most`` answers.
        """

    async def conversation(self, tenant: str, conversation_id: str) -> Conversation | None:
        """One conversation."""

    async def conversations(
        self, tenant: str, *, before: tuple[datetime, str] | None = None, limit: int = 50
    ) -> list[Conversation]:
        """The last used first; ``before`` is the (updated_at, id) of the last one seen."""

    async def answers_of(self, tenant: str, conversation_id: str, limit: int) -> list[AnswerRow]:
        """The latest answers of a conversation, oldest first."""

    async def forget_conversation(self, tenant: str, conversation_id: str) -> bool:
        """Delete a conversation with its answers; ``False`` when there is none."""


@dataclass(frozen=True)
class Listed:
    """A recording in a count or a list."""

    id: str
    title: str
    collection: str
    recorded_at: datetime | None
    duration_ms: int | None
    has_audio: bool
    created_at: datetime


@dataclass(frozen=True)
class Census:
    """How many recordings there are, the newest of them, and how many more have no date to be asked for by."""

    count: int
    duration_ms: int
    newest: tuple[Listed, ...]
    undated: int = 0


class Library(Protocol):
    """Counting recordings rather than searching them. Raises ``Unavailable("catalog", …)``."""

    async def census(
        self,
        tenant: str,
        *,
        recording_ids: Collection[str] | None = None,
        collection: str | None = None,
        among: Collection[str] | None = None,
        language: str | None = None,
        recorded_from: datetime | None = None,
        recorded_to: datetime | None = None,
        limit: int = 100,
    ) -> Census:
        """Recordings that may be shown and satisfy all of these; ``None`` does not restrict.

        Args:
            tenant: whose.
            recording_ids: only these.
            collection: the one they are in.
            among: the only collections that may be seen at all.
            language: as spoken.
            recorded_from: recorded then or later.
            recorded_to: recorded then or earlier.
            limit: so many are named.
        """

    async def collection_names(
        self, tenant: str, limit: int, among: Collection[str] | None = None
    ) -> list[tuple[str, datetime]]:
        """Collections that have a recording, by name, each with the moment it began."""
