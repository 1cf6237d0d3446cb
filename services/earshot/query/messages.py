"""What a search is asked and what it answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from earshot.kernel.events import Word
from earshot.kernel.ports import SearchMode

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class Filters(BaseModel):
    """What every hit must satisfy; what is left out does not restrict."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    recording_id: Name | Annotated[list[Name], Field(max_length=100)] | None = Field(
        None, description="One or several."
    )
    collection: Name | None = Field(None, description="The collection it was uploaded to.")
    speaker: Name | None = Field(None, description="Who speaks in the passage: a label, or the name it was given.")
    language: Name | None = Field(None, description="BCP 47, as spoken.")
    from_: datetime | None = Field(None, alias="from", description="Recorded at this time or later.")
    to: datetime | None = Field(None, description="Recorded at this time or earlier.")


class SearchRequest(BaseModel):
    """A question in plain words; no character in it means anything special."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"query": "ask what you can do for your country", "top_k": 3}]},
    )

    query: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
    top_k: int = Field(10, ge=1, le=100, description="At most so many hits.")
    mode: SearchMode = Field(
        "hybrid", description="By words and meaning, reranked if it can be; by words alone; or by meaning alone."
    )
    filters: Filters = Field(default_factory=lambda: Filters.model_validate({}))


class Hit(BaseModel):
    """A passage that answers, and where it was said."""

    recording_id: str
    title: str
    recorded_at: datetime | None
    start_ms: int = Field(
        description="Where the wording of the question begins, else the passage; from the recording's start."
    )
    end_ms: int = Field(description="Where the passage ends.")
    text: str = Field(description="The passage.")
    words: list[Word] = Field(description="With their times; empty for transcripts without.")
    context_before: str = Field(description="What was said just before.")
    context_after: str = Field(description="What was said just after.")
    speakers: list[str] = Field(description="Who speaks in it, by name where somebody gave one, else by label.")
    score: float = Field(description="Higher is better; comparable within one answer only.")
    media_url: str | None = Field(description="The audio at this stretch (W3C Media Fragments); null without audio.")
    degraded: bool = Field(description="A fallback engine wrote it down.")


class SearchAnswer(BaseModel):
    """The best passages, best first."""

    hits: list[Hit]
    took_ms: int
    trace_id: str
    reranker: str | None = Field(None, description="The model that judged the best passages again; null: none did.")
    notices: list[str] = Field(default_factory=list, description="What could not be done for this answer, and why.")
