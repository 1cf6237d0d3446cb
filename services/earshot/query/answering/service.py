"""Answers as a service: in a conversation or without one, with a version of the prompt, kept for feedback."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from opentelemetry.trace import Span

from earshot.adapters.problems import Refused
from earshot.kernel.errors import EarshotError
from earshot.kernel.ports import VectorStore
from earshot.kernel.ports.answers import AnswerRow, ChatModel, Conversations
from earshot.kernel.telemetry import span, trace_id_of
from earshot.query.alias import Alias
from earshot.query.answering import prompting
from earshot.query.answering.answer import answer
from earshot.query.answering.dates import Period
from earshot.query.answering.draft import Began, Done, Draft, Event
from earshot.query.answering.means import Asked, Knowledge, Limits, Means, Turn
from earshot.query.answering.messages import AnswerRequest, AnswerView, PeriodView
from earshot.query.answering.zones import zone_info
from earshot.query.search import Judge
from earshot.query.settings import AnswersSettings

NEW = "new"
MOST_REMEMBERED = 1000
"""Characters of an answer that a later question of its conversation is understood by."""
MOST_TITLE = 200


class Answers:
    """Everything an answer needs, for one process.

    Args:
        alias: the encoder of the index that serves.
        vectors: where passages are.
        catalog: the gate, the library, the conversations.
        judge: the reranker, if any.
        models: asked in this order.
        settings: how much, how long, which prompts.
        now: the present, in UTC.

    Raises:
        Misconfigured: a prompt of the settings does not exist.
    """

    def __init__(
        self,
        alias: Alias,
        vectors: VectorStore,
        catalog: Any,
        judge: Judge | None,
        models: Sequence[ChatModel],
        settings: AnswersSettings,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self._alias, self._vectors, self._judge = alias, vectors, judge
        self._knowledge: Knowledge = catalog
        self._conversations: Conversations = catalog
        self.models, self.settings = models, settings
        self.now = now or (lambda: datetime.now(UTC))
        self.open = 0
        self._rewriting = prompting.prompt(settings.rewrite_prompt)
        for name in filter(None, (settings.prompt, settings.prompt_other)):
            prompting.prompt(name)

    async def close(self) -> None:
        """Close the models' connections."""
        for model in self.models:
            await model.close()

    async def tell(
        self,
        request: AnswerRequest,
        tenant: str,
        within: tuple[str, ...] | None = None,
        history: Sequence[Turn] = (),
        max_tokens: int | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Answer a question, telling what comes of it; the last event is ``Done``.

        Args:
            request: the question.
            tenant: whose.
            within: the only collections that are looked in.
            history: the conversation, where the client keeps it and the catalog does not.
            max_tokens: the longest answer, if shorter than the settings say.

        Raises:
            Refused: 404, 409 or 429: there is no such conversation, it is full, too many answers are being written.
            Unavailable: a store does not answer.
        """
        if self.open >= self.settings.max_answers:
            raise Refused(429, "too_many_answers", "Too many answers are being written.", next_step="Wait a moment.")
        self.open += 1
        try:
            with span("answer", **{"earshot.question_length": len(request.question)}) as current:
                async with aclosing(self._told(request, tenant, within, history, max_tokens, current)) as events:
                    async for event in events:
                        yield event
        finally:
            self.open -= 1

    async def _told(
        self,
        request: AnswerRequest,
        tenant: str,
        within: tuple[str, ...] | None,
        history: Sequence[Turn],
        max_tokens: int | None,
        current: Span,
    ) -> AsyncGenerator[Event, None]:
        started, answer_id = time.perf_counter(), uuid.uuid4().hex
        conversation = uuid.uuid4().hex if request.conversation_id == NEW else request.conversation_id
        if request.conversation_id not in (None, NEW):
            history = await self._history(tenant, str(conversation))
        asked = self._asked(request, tenant, within, history, max_tokens)
        means = await self._means(conversation or answer_id)
        draft, began = Draft(request.question), Began(None, request.filters, None)
        async with aclosing(answer(asked, means, draft)) as events:
            async for event in events:
                began = event if isinstance(event, Began) else began
                yield event
        current.set_attributes({"earshot.outcome": draft.outcome, "earshot.provider": draft.provider})
        if draft.prompt:
            current.set_attributes({"earshot.prompt": draft.prompt.name, "earshot.prompt_hash": draft.prompt.hash})
        view = _view(answer_id, conversation, request.question, began, draft)
        view.took_ms, view.trace_id = round((time.perf_counter() - started) * 1000), trace_id_of(current)
        await self._keep(tenant, view, draft)
        yield Done(view)

    def _asked(
        self,
        request: AnswerRequest,
        tenant: str,
        within: tuple[str, ...] | None,
        history: Sequence[Turn],
        max_tokens: int | None,
    ) -> Asked:
        zone = zone_info(request.timezone or self.settings.timezone)
        return Asked(
            question=request.question,
            filters=request.filters,
            tenant=tenant,
            within=within,
            now=self.now().astimezone(zone) if request.dates == "filter" else None,
            history=history[-self.settings.history :],
            use_model=request.model,
            max_tokens=min(max_tokens or self.settings.max_tokens, self.settings.max_tokens),
        )

    async def _means(self, key: str) -> Means:
        settings = self.settings
        return Means(
            encoder=await self._alias.encoder(),
            vectors=self._vectors,
            library=self._knowledge,
            judge=self._judge,
            models=self.models,
            instructions=prompting.choose(settings.prompt, settings.prompt_other, settings.prompt_other_share, key),
            rewriting=self._rewriting,
            limits=Limits(settings.passages, settings.context_tokens, settings.deadline_s),
        )

    async def _history(self, tenant: str, conversation_id: str) -> list[Turn]:
        """A conversation's latest answers. Raises ``Refused`` (404, 409)."""
        known = await self._conversations.conversation(tenant, conversation_id)
        if known is None:
            raise unknown_conversation()
        if known.answers >= self.settings.conversation_answers:
            raise Refused(
                409, "conversation_full", f"The conversation has {known.answers} answers.", next_step="Begin a new one."
            )
        rows = await self._conversations.answers_of(tenant, conversation_id, self.settings.history)
        return [_turn(row) for row in rows]

    async def _keep(self, tenant: str, view: AnswerView, draft: Draft) -> None:
        """Keep an answer; one that cannot be kept is given all the same, and says so."""
        row = AnswerRow(
            tenant=tenant,
            id=view.id,
            conversation_id=view.conversation_id,
            kind=view.outcome,
            question=view.question,
            rewritten=view.rewritten or "",
            body=view.model_dump_json(by_alias=True) if view.conversation_id else "",
            provider=view.provider,
            prompt=view.prompt.name if view.prompt else "",
            prompt_hash=view.prompt.hash if view.prompt else "",
            created_at=self.now(),
            recordings=tuple(sorted(draft.recordings)) if view.conversation_id else (),
        )
        try:
            await self._conversations.keep_answer(row, view.question[:MOST_TITLE], self.settings.conversation_answers)
        except EarshotError as error:
            view.notices.append(f"The answer is not kept: {error}")


def unknown_conversation() -> Refused:
    """There is no conversation of this id, or it is another tenant's."""
    return Refused(404, "unknown_conversation", "There is no such conversation.", next_step="Begin one with `new`.")


def _view(answer_id: str, conversation: str | None, question: str, began: Began, draft: Draft) -> AnswerView:
    period = began.period
    return AnswerView(
        id=answer_id,
        conversation_id=conversation,
        outcome=draft.outcome,
        question=question,
        rewritten=began.rewritten,
        text=draft.text,
        sentences=draft.sentences,
        citations=draft.citations,
        filters=began.filters,
        period=PeriodView(text=period.text, start=period.start, end=period.end) if period else None,
        aggregation=draft.aggregation,
        provider=draft.provider,
        model=draft.model,
        degraded=draft.degraded,
        notices=draft.notices,
        prompt=draft.prompt,
        usage=draft.usage,
        took_ms=0,
        trace_id="",
    )


def _turn(row: AnswerRow) -> Turn:
    if not row.body:
        return Turn(row.rewritten or row.question, "")
    kept = AnswerView.model_validate_json(row.body)
    period = Period(kept.period.text, kept.period.start, kept.period.end) if kept.period else None
    return Turn(row.rewritten or row.question, kept.text[:MOST_REMEMBERED], period)
