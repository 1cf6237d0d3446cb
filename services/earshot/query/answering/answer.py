"""From a question to an answer with proof, told while it is made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from datetime import timedelta

from earshot.kernel import ids
from earshot.kernel.errors import EarshotError
from earshot.kernel.ports.answers import ChatMessage, ChatModel
from earshot.kernel.telemetry import span
from earshot.query.answering import counting, extract, followup, prompting
from earshot.query.answering.aggregate import count, matter
from earshot.query.answering.asking import by_models
from earshot.query.answering.dates import Period, find
from earshot.query.answering.draft import Began, Draft, Event, Reset
from earshot.query.answering.evidence import gather
from earshot.query.answering.intent import Intent, read
from earshot.query.answering.means import Asked, Means
from earshot.query.messages import Filters, SearchRequest
from earshot.query.search import filters_of
from earshot.query.search import find as find_passages

TINY = timedelta(microseconds=1)
REWRITE_TOKENS = 200
GREETING = (
    "Hello. Ask me anything about what was said in your recordings: what somebody said, which recordings mention "
    "something, or what was decided last week."
)
HELP = (
    "I answer questions from what was said in your recordings, and point at the second it was said. Ask what somebody "
    "said (What did Ada say about pricing?), count and list (How many recordings mention the budget? Who talked about "
    "it?), and say when (since 3 May, last Tuesday). Every number in an answer plays the place it comes from."
)
THANKS = "You are welcome."
ERASED = "A recording that this answer rested on was erased while it was written. Ask again."


async def answer(asked: Asked, means: Means, draft: Draft) -> AsyncGenerator[Event, None]:
    """Make an answer, telling what comes of it. What it is in the end stands in the draft.

    Raises:
        Unavailable: the vector store, the catalog or the embedding model does not answer. Models that fail cost
            nothing but time: the passages themselves are quoted then, and the draft says so.
    """
    small_talk = read(asked.question)
    if said := _by_rule(small_talk, draft):
        for event in (Began(None, asked.filters, None), *draft.say(said)):
            yield event
        return
    draft.question = question = await _understood(asked, means, draft)
    period, bare = _when(question, asked)
    filters = _restricted(asked.filters, period)
    yield Began(question if question != asked.question else None, filters, period)
    intent = read(bare)
    if intent.kind in ("count", "list"):
        making = _counted(intent, filters, period, asked, means, draft)
    else:
        making = _answered(bare, filters, asked, means, draft)
    async with aclosing(making) as events:
        async for event in events:
            yield event
    async for event in _read_again(asked, means, draft):
        yield event
    draft.complain()


def restricted_by(period: Period | None, asked: Asked, question: str) -> Period | None:
    """The period of a question; of one that leans on the one before and names none, that one's."""
    if period is None and asked.history and followup.leans(question):
        return asked.history[-1].period
    return period


def _by_rule(intent: Intent, draft: Draft) -> str:
    """What needs neither search nor model; empty for a real question."""
    if intent.kind == "declined":
        draft.outcome = "declined"
        return intent.reason
    if intent.kind in ("greeting", "help", "thanks"):
        draft.outcome = intent.kind
        return {"greeting": GREETING, "help": HELP, "thanks": THANKS}[intent.kind]
    return ""


# --- understanding ----------------------------------------------------------------------------------------------


async def _understood(asked: Asked, means: Means, draft: Draft) -> str:
    """The question, whole without the conversation: by a model where there is one, else by rules."""
    if not asked.history:
        return asked.question
    by_rules = followup.whole(asked.question, [turn.question for turn in asked.history])
    if not (asked.use_model and means.models):
        return by_rules
    turns = [(turn.question, turn.answer) for turn in asked.history]
    request = prompting.conversation(means.rewriting, turns, asked.question)
    model = means.models[0]
    with span("rewrite the question", **{"earshot.model": model.model, "earshot.prompt_hash": means.rewriting.hash}):
        try:
            async with asyncio.timeout(means.limits.deadline_s / 2):
                said = await _whole(model, request, asked.tenant)
        except (EarshotError, TimeoutError) as error:
            draft.notices.append(f"The question was made whole by rules: {str(error) or 'the model is too slow.'}")
            return by_rules
    lines = [line.strip(" \"'“”") for line in said.splitlines() if line.strip()]
    return lines[0] if len(lines) == 1 and 3 <= len(lines[0]) <= 500 else by_rules


async def _whole(model: ChatModel, messages: Sequence[ChatMessage], tenant: str) -> str:
    async with aclosing(model.stream(messages, REWRITE_TOKENS, tenant)) as pieces:
        return "".join([piece async for piece in pieces if isinstance(piece, str)])


def _when(question: str, asked: Asked) -> tuple[Period | None, str]:
    """The time a question names, and the question without it; whole where nothing else is left of it."""
    if asked.now is None:
        return None, question
    period, bare = find(question, asked.now)
    return restricted_by(period, asked, asked.question), bare if any(map(str.isalnum, bare)) else question


def _restricted(filters: Filters, period: Period | None) -> Filters:
    """Both the filters and the period: the later beginning and the earlier end."""
    if period is None:
        return filters
    last = period.end - TINY if period.end else None  # filters include their end
    begins = [at for at in (filters.from_, period.start) if at is not None]
    ends = [at for at in (filters.to, last) if at is not None]
    return filters.model_copy(update={"from_": max(begins, default=None), "to": min(ends, default=None)})


# --- counts and lists -------------------------------------------------------------------------------------------


async def _counted(
    intent: Intent, filters: Filters, period: Period | None, asked: Asked, means: Means, draft: Draft
) -> AsyncGenerator[Event, None]:
    where = await filters_of(filters, asked.tenant, means.library, asked.within)
    encoder = means.encoder
    index = ids.index_name(encoder.model, encoder.dimensions)
    with span("count"):
        counted = await count(
            matter(intent), where, asked.tenant, index, encoder, means.vectors, means.library, means.library,
            counting.SHOWN, by_passages=intent.unit == "speakers",
        )  # fmt: skip
    voices = await means.library.voices(asked.tenant, counting.wanted_voices(intent, counted))
    who = counting.speakers(counted, voices) if intent.unit == "speakers" else {}
    proofs = counting.proofs(intent, counted, who) if intent.topic else []
    evidence = await gather(proofs, asked.tenant, means.library, None)
    draft.begin(evidence)
    seen = counting.view(intent, counted, evidence, who)
    draft.outcome, draft.aggregation = "counted" if intent.kind == "count" else "listed", seen
    draft.recordings |= {each.recording_id for each in seen.recordings}
    if counted.census.undated:
        draft.notices.append(f"Without a date, and so not looked at: {counted.census.undated} recordings.")
    for event in draft.say(counting.told(intent, seen, counted, evidence, who, period.text if period else "")):
        yield event


# --- answers ----------------------------------------------------------------------------------------------------


async def _answered(
    question: str, filters: Filters, asked: Asked, means: Means, draft: Draft
) -> AsyncGenerator[Event, None]:
    request = SearchRequest(query=question[:2000], top_k=means.limits.passages, filters=filters)
    with span("search"):
        found = await find_passages(
            request, asked.tenant, means.encoder, means.vectors, means.library, means.judge, asked.within
        )
    draft.notices += found.notices
    with span("gather the evidence"):
        evidence = await gather(found.passages, asked.tenant, means.library, means.limits.context_tokens)
    draft.begin(evidence)
    if not evidence:
        for event in _nothing(draft, filters):
            yield event
        return
    if asked.use_model:
        async with aclosing(by_models(question, asked, means, draft)) as events:
            async for event in events:
                yield event
        if draft.provider != "none":
            return
    for event in _extracted(question, draft):
        yield event


def _nothing(draft: Draft, filters: Filters) -> Iterator[Event]:
    draft.outcome = "no_evidence"
    given = filters.model_dump(by_alias=True, exclude_none=True)
    yield from draft.say(
        "I found nothing in the recordings that answers this" + (", within the filters that are set." if given else ".")
    )


def _extracted(question: str, draft: Draft) -> Iterator[Event]:
    """The passages themselves, quoted."""
    draft.provider, draft.model = "none", ""
    chosen = extract.picks(question, draft.evidence)
    if chosen:
        yield from draft.say(extract.written(chosen))
        return
    draft.outcome = "no_evidence"
    yield from draft.say("I found nothing in the recordings that has the words of this question.")


# --- reading again ----------------------------------------------------------------------------------------------


async def _read_again(asked: Asked, means: Means, draft: Draft) -> AsyncGenerator[Event, None]:
    """Take an answer back that rests on a recording which was erased meanwhile."""
    keys = {(asked.tenant, recording) for recording in draft.recordings}
    standings = await means.library.standings(keys)
    if all((standing := standings.get(key)) is not None and standing.state != "erased" for key in keys):
        return
    draft.begin(())
    draft.outcome, draft.aggregation, draft.recordings = "no_evidence", None, set()
    yield Reset(ERASED)
    for event in draft.say(ERASED):
        yield event
