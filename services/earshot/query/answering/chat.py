"""What OpenAI's clients send to ``/v1/chat/completions``, and what they are answered. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from earshot.adapters.problems import Refused
from earshot.query.answering.means import Turn
from earshot.query.answering.messages import MOST_QUESTION, AnswerView, CitationView
from earshot.query.answering.prompting import clock

EVERYTHING = "earshot"
"""The model that answers from every collection; any other model is the collection of that name."""
MOST_MESSAGES = 200
MOST_CONTENT = 100_000
"""Characters of one message; of all but the last only the beginning is looked at."""
MOST_LOOKED_AT = 1000
Content = Annotated[str, StringConstraints(max_length=MOST_CONTENT)]


class Part(BaseModel):
    """A part of a message; only text is read."""

    model_config = ConfigDict(extra="ignore")

    type: Annotated[str, StringConstraints(max_length=40)]
    text: Content = ""


class Message(BaseModel):
    """A message of a chat."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Content | Annotated[list[Part], Field(max_length=100)] | None = None

    @property
    def text(self) -> str:
        """What it says."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content if part.type == "text")
        return self.content or ""


class StreamOptions(BaseModel):
    """What a stream ends with."""

    model_config = ConfigDict(extra="ignore")

    include_usage: bool = False


class ChatRequest(BaseModel):
    """A chat, as OpenAI's clients send it. What does not apply here (temperature, tools, …) is taken and not used."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "examples": [
                {"model": "earshot", "messages": [{"role": "user", "content": "What was said about pricing?"}]}
            ]
        },
    )

    model: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(
        description="A collection; `earshot`: all of them."
    )
    messages: list[Message] = Field(min_length=1, max_length=MOST_MESSAGES)
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int | None = Field(None, ge=1, le=1, description="One answer.")
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)

    @property
    def longest(self) -> int | None:
        """The longest answer that is wished for."""
        return self.max_completion_tokens or self.max_tokens


def question_of(chat: ChatRequest) -> str:
    """The last message, which must be the user's. Raises ``Refused`` (400)."""
    last = chat.messages[-1]
    text = last.text.strip()
    if last.role != "user" or not text:
        raise Refused(400, "no_question", "The last message is no question of the user's.", next_step="Send one.")
    if len(text) > MOST_QUESTION:
        raise Refused(
            400, "question_too_long", f"The question has more than {MOST_QUESTION} characters.", next_step="Shorten it."
        )
    return text


def history_of(chat: ChatRequest) -> list[Turn]:
    """The questions before the last, each with the answer that followed it."""
    turns: list[Turn] = []
    for message in chat.messages[:-1]:
        text = message.text.strip()[:MOST_LOOKED_AT]
        if message.role == "user" and text:
            turns.append(Turn(text, ""))
        elif message.role == "assistant" and turns:
            turns[-1] = Turn(turns[-1].question, text)
    return turns


def sources(citations: Sequence[CitationView], base: str) -> str:
    """Where the numbers of an answer come from, as text: clients of this interface have no other place for it."""
    if not citations:
        return ""
    return "\n\n" + "\n".join(source(each, base) for each in citations)


def source(each: CitationView, base: str) -> str:
    """One line of them."""
    who = f", {each.speaker}" if each.speaker else ""
    link = f" {base}{each.media_url}" if each.media_url else ""
    return f"[{each.number}] {each.title or each.recording_id}{who}, {clock(each.start_ms)}{link}"


def completion(view: AnswerView, model: str, base: str, created: int) -> dict[str, Any]:
    """The whole answer. ``earshot`` holds it with its proof."""
    content = view.text + sources(view.citations, base)
    message = {"role": "assistant", "content": content, "refusal": None, "annotations": url_citations(view, base)}
    return {
        "id": f"chatcmpl-{view.id}",
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": usage(view),
        "earshot": view.model_dump(mode="json", by_alias=True),
    }


def url_citations(view: AnswerView, base: str) -> list[dict[str, Any]]:
    """The citations of each sentence, as OpenAI writes those of web pages."""
    by_number = {each.number: each for each in view.citations}
    found = []
    for sentence in view.sentences:
        for number in sentence.citations:
            if (cited := by_number.get(number)) is not None and cited.media_url:
                url = {"url": base + cited.media_url, "title": cited.title}
                place = {"start_index": sentence.start, "end_index": sentence.end}
                found.append({"type": "url_citation", "url_citation": url | place})
    return found


def usage(view: AnswerView) -> dict[str, int]:
    """Tokens; none where no model was asked."""
    got = view.usage.input_tokens if view.usage else 0
    made = view.usage.output_tokens if view.usage else 0
    return {"prompt_tokens": got, "completion_tokens": made, "total_tokens": got + made}


class Chunks:
    """The pieces of a streamed completion.

    Args:
        answer_id: of the completion.
        model: as asked for.
        created: seconds since the epoch.
    """

    def __init__(self, answer_id: str, model: str, created: int) -> None:
        self._about = {"id": answer_id, "object": "chat.completion.chunk", "created": created, "model": model}

    def begin(self) -> dict[str, Any]:
        """Who speaks."""
        return self._chunk({"role": "assistant", "content": ""})

    def text(self, text: str) -> dict[str, Any]:
        """A piece of the text."""
        return self._chunk({"content": text})

    def end(self, view: AnswerView, *, with_usage: bool) -> Iterator[dict[str, Any]]:
        """The end, with the whole answer beside it; then the usage, if it is wished for."""
        yield self._chunk({}, "stop") | {"earshot": view.model_dump(mode="json", by_alias=True)}
        if with_usage:
            yield {**self._about, "choices": [], "usage": usage(view)}

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**self._about, "choices": [choice]}
