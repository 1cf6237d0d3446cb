"""Asking models, one after another, with every word of theirs checked as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing

from earshot.kernel.errors import EarshotError, Unavailable
from earshot.kernel.ports.answers import ChatMessage, ChatModel, Usage
from earshot.kernel.telemetry import span
from earshot.query.answering import prompting
from earshot.query.answering.draft import Draft, Event, Reset
from earshot.query.answering.means import Asked, Means
from earshot.query.answering.messages import PromptView, UsageView

NOTHING, OUTSIDE = "NO EVIDENCE", "OUT OF SCOPE:"
"""What the prompts tell a model to begin with when it cannot or may not answer."""
UNFOUNDED = "\n\n(Nothing that was retrieved is cited for this, so it has no evidence in the recordings.)"


async def by_models(question: str, asked: Asked, means: Means, draft: Draft) -> AsyncGenerator[Event, None]:
    """One model after another, until one answers; a draft whose provider is ``none`` afterwards has no answer yet."""
    deadline = asyncio.get_running_loop().time() + means.limits.deadline_s
    request = prompting.messages(means.instructions, question, draft.evidence)
    for model in means.models:
        draft.provider, draft.model = model.provider, model.model
        draft.prompt = PromptView(name=means.instructions.name, hash=means.instructions.hash)
        about = {"earshot.provider": model.provider, "earshot.model": model.model}
        about |= {"earshot.prompt": means.instructions.name, "earshot.prompt_hash": means.instructions.hash}
        with span("ask the model", **about) as current:
            try:
                async with aclosing(_written(model, request, asked, draft, deadline)) as events:
                    async for event in events:
                        yield event
                draft.degraded = None
                if draft.usage:
                    current.set_attribute("earshot.input_tokens", draft.usage.input_tokens)
                    current.set_attribute("earshot.output_tokens", draft.usage.output_tokens)
            except EarshotError as error:
                draft.degraded = str(error)
                current.set_attribute("earshot.degraded", draft.degraded)
            else:
                return
        if draft.text:
            yield Reset(f"The model failed: {draft.degraded}")
        draft.begin(draft.evidence)
        draft.provider, draft.model, draft.prompt, draft.usage = "none", "", None, None


async def _written(
    model: ChatModel, request: Sequence[ChatMessage], asked: Asked, draft: Draft, deadline: float
) -> AsyncGenerator[Event, None]:
    """One model's answer, checked as it comes. Raises ``Unavailable`` also when it is too slow."""
    head: str | None = ""
    async with aclosing(model.stream(request, asked.max_tokens, asked.tenant)) as pieces:
        while (piece := await _next(pieces, deadline, model)) is not None:
            if isinstance(piece, Usage):
                draft.usage = _usage(piece, draft)
                continue
            if head is not None:  # what may still be one of the two words that are no answer is held back
                head += piece
                if _may_refuse(head):
                    continue
                piece, head = head, None
            for event in draft.write(piece):
                yield event
    for event in _ended(head, draft, model):
        yield event


def _usage(used: Usage, draft: Draft) -> UsageView:
    if used.cut_short:
        draft.notices.append("The answer was cut off at its longest length.")
    return UsageView(input_tokens=used.input_tokens, output_tokens=used.output_tokens, estimated=not used.counted)


async def _next(pieces: AsyncGenerator[str | Usage, None], deadline: float, model: ChatModel) -> str | Usage | None:
    try:
        async with asyncio.timeout_at(deadline):
            return await anext(pieces, None)
    except TimeoutError:
        raise Unavailable("model", f"The model {model.model} takes too long.") from None


def _may_refuse(head: str) -> bool:
    start = head.lstrip().upper()
    return any(start.startswith(word) or word.startswith(start) for word in (NOTHING, OUTSIDE))


def _ended(head: str | None, draft: Draft, model: ChatModel) -> Iterator[Event]:
    """The end of a model's answer: what it refused, and what is to be said of one that rests on nothing."""
    start = (head or "").strip()
    if head is not None and not start:
        raise Unavailable("model", f"The model {model.model} answers with nothing.")
    if start.upper().startswith(NOTHING):
        draft.outcome = "no_evidence"
        yield from draft.write("The recordings that were found do not answer this.")
    elif start.upper().startswith(OUTSIDE):
        draft.outcome = "declined"
        reason = " ".join(start[len(OUTSIDE) :].split())[:500]
        yield from draft.write(reason or "This is not about what was said in the recordings.")
    elif start:
        yield from draft.write(start)
    yield from draft.end()
    if draft.outcome == "answered" and not draft.checker.cited:
        draft.outcome = "unfounded"
        yield from draft.say(UNFOUNDED)
