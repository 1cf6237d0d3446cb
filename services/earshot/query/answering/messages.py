"""What a question is asked with, and what is answered."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from earshot.adapters.problems import Problem
from earshot.query.answering.zones import zone
from earshot.query.messages import Filters, SearchAnswer, SearchRequest

MOST_QUESTION = 2000
"""Characters of a question."""
MOST_QUERIES = 32
"""Searches in one batch."""
Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,100}$")]
Outcome = Literal["answered", "unfounded", "no_evidence", "counted", "listed", "declined", "greeting", "help", "thanks"]


class AnswerRequest(BaseModel):
    """A question in plain words, and where its answer may come from."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"question": "What did Ada say about pricing last Tuesday?"}]},
    )

    question: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MOST_QUESTION)]
    filters: Filters = Field(
        default_factory=lambda: Filters.model_validate({}), description="As of a search: every one holds for all cited."
    )
    conversation_id: Id | None = Field(
        None, description="Of an earlier answer: this one follows it. `new` begins a conversation; null keeps none."
    )
    stream: bool = Field(
        False, description="As server-sent events while it comes; also by `Accept: text/event-stream`."
    )
    dates: Literal["filter", "ignore"] = Field(
        "filter", description='Whether "last Tuesday" in the question restricts when a recording was recorded.'
    )
    timezone: Annotated[str, StringConstraints(max_length=60), AfterValidator(zone)] | None = Field(
        None, description="Where days begin (IANA name); null: as the service is set.", examples=["Europe/Berlin"]
    )
    model: bool = Field(True, description="False: quote the passages themselves, whatever model there is.")


class CitationView(BaseModel):
    """What a number in an answer stands for."""

    number: int = Field(description="As in the answer's text: [1].")
    recording_id: str
    title: str
    recorded_at: datetime | None
    speaker: str | None = Field(
        description="Who says it, by name where somebody gave one; null: not known, or several."
    )
    speakers: list[str] = Field(description="Everybody who speaks in the passage.")
    start_ms: int = Field(description="Where what is quoted begins, else the passage; from the recording's start.")
    end_ms: int
    text: str = Field(description="The passage.")
    media_url: str | None = Field(description="The audio at this second (W3C Media Fragments); null without audio.")
    degraded: bool = Field(description="A fallback engine wrote it down.")


class QuotationView(BaseModel):
    """Words in quotation marks."""

    text: str
    said: bool = Field(description="Whether the retrieved transcripts have these words. False is marked in the text.")
    numbers: list[int] = Field(description="The citations that have them.")


class SentenceView(BaseModel):
    """A sentence of the answer, and what it rests on."""

    text: str
    start: int = Field(description="Where it stands in the answer's text, in characters.")
    end: int
    citations: list[int]
    quotations: list[QuotationView]


class PeriodView(BaseModel):
    """A time that the question named, as it was understood: half-open; null is unbounded."""

    text: str = Field(examples=["last Tuesday"])
    start: datetime | None
    end: datetime | None


class CountedRecording(BaseModel):
    """A recording of a count or a list."""

    recording_id: str
    title: str
    recorded_at: datetime | None
    mentions: int | None = Field(description="How often it mentions the matter; null where none was asked for.")
    number: int | None = Field(description="The citation of the first mention.")


class AggregationView(BaseModel):
    """What was counted, over the whole library rather than the best passages."""

    unit: Literal["recordings", "mentions", "speakers"]
    matter: str = Field(description="What had to be mentioned; empty: all there are.")
    count: int
    exact: bool = Field(description="False: there are at least so many.")
    recordings: list[CountedRecording] = Field(description="The newest; at most 100.")
    speakers: dict[str, int] = Field(
        default_factory=dict, description="Mentions by speaker, where these were asked for."
    )


class PromptView(BaseModel):
    """Which version of the instructions a model had."""

    name: str
    hash: str


class UsageView(BaseModel):
    """Tokens, as the provider counts them or estimated."""

    input_tokens: int
    output_tokens: int
    estimated: bool


class AnswerView(BaseModel):
    """An answer with its proof."""

    id: str = Field(description="For feedback.")
    conversation_id: str | None
    outcome: Outcome = Field(
        description="`unfounded`: a model answered without citing anything that was retrieved; the text says so."
    )
    question: str
    rewritten: str | None = Field(description="What was looked for, where the question leans on those before it.")
    text: str = Field(description="With citations by number: [1].")
    sentences: list[SentenceView]
    citations: list[CitationView] = Field(description="What the numbers stand for.")
    filters: Filters = Field(description="What held for all that was looked at, the question's own time included.")
    period: PeriodView | None = Field(description="The time that the question named; in `filters` as well.")
    aggregation: AggregationView | None = Field(description="Of counts and lists.")
    provider: str = Field(description="`openai`, `anthropic`, or `none`: the passages themselves, quoted.")
    model: str
    degraded: str | None = Field(description="Why no model answered although one is configured.")
    notices: list[str] = Field(description="What was dropped, marked or could not be done, and why.")
    prompt: PromptView | None
    usage: UsageView | None
    took_ms: int
    trace_id: str


class BatchRequest(BaseModel):
    """Several searches in one request."""

    model_config = ConfigDict(extra="forbid")

    queries: list[SearchRequest] = Field(min_length=1, max_length=MOST_QUERIES)


class BatchItem(BaseModel):
    """What one search found, or why it could not be done."""

    answer: SearchAnswer | None
    problem: Problem | None


class BatchAnswer(BaseModel):
    """The answers, in the order of the queries."""

    items: list[BatchItem]
    took_ms: int
    trace_id: str


class ConversationView(BaseModel):
    """Questions and answers that belong together."""

    id: str
    title: str = Field(description="Its first question.")
    answers: int
    created_at: datetime
    updated_at: datetime


class ConversationList(BaseModel):
    """A page of conversations, the last used first."""

    items: list[ConversationView]
    next: str | None = Field(description="Send it as `cursor` for the next page; null on the last.")


class TurnView(BaseModel):
    """A question and its answer."""

    id: str
    question: str
    answer: dict[str, Any] | None = Field(
        description="As `POST /answers` gave it; null once a recording it rests on was erased."
    )
    created_at: datetime


class ConversationDetail(ConversationView):
    """A conversation with its answers, oldest first."""

    items: list[TurnView]
    next: None = None
