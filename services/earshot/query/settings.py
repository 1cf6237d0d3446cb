"""How the query service answers."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings

from earshot.adapters.chat_settings import AnthropicSettings, OpenAISettings
from earshot.adapters.oidc import OidcSettings
from earshot.adapters.rate_limits import LimitsSettings
from earshot.adapters.rerankers import RerankerSettings
from earshot.adapters.web import WebSettings
from earshot.kernel.settings import config
from earshot.query.answering.zones import zone

__all__ = [
    "AnswersSettings",
    "AnthropicSettings",
    "LimitsSettings",
    "OidcSettings",
    "OpenAISettings",
    "QuerySettings",
    "RerankerSettings",
    "WebSettings",
]


class QuerySettings(BaseSettings):
    """Limits and intervals."""

    model_config = config("QUERY__")

    stages: tuple[str, ...] = Field(
        ("segmenter", "transcriber", "embedder", "indexer", "tracker", "eraser"),
        description="Stages that must show signs of life for /health/ready.",
    )
    check_timeout_s: float = Field(1.5, gt=0, description="Longest wait for one dependency in /health/ready.")
    events_interval_s: float = Field(0.5, gt=0, description="How often a job is looked at for its event stream.")
    events_max_s: float = Field(3600.0, gt=0, description="Longest event stream; clients connect again by themselves.")
    max_event_streams: int = Field(200, ge=1, description="Event streams open at the same time.")


class AnswersSettings(BaseSettings):
    """How questions are answered. Which models there are, each provider's own settings say."""

    model_config = config("ANSWERS__")

    providers: str = Field(
        "",
        description="Who is asked, in this order, with commas: openai,anthropic; empty: all that have a model; none: nobody.",  # noqa: E501 - one sentence
    )
    prompt: str = Field("answer-1", description="Version of the instructions, a file of query/prompts.")
    prompt_other: str = Field("", description="A second version, beside the first; empty: none.")
    prompt_other_share: float = Field(0.0, ge=0, le=1, description="Share of conversations that get the second one.")
    rewrite_prompt: str = Field(
        "rewrite-1", description="Version of the instructions for questions that lean on others."
    )
    passages: int = Field(8, ge=1, le=50, description="So many of the best passages an answer may rest on.")
    context_tokens: int = Field(3000, ge=100, description="So much of them, and of what is said beside them, is sent.")
    max_tokens: int = Field(700, ge=16, description="Longest answer of a model.")
    deadline_s: float = Field(60.0, gt=0, description="All models together; then the passages themselves are quoted.")
    timezone: Annotated[str, AfterValidator(zone)] = Field(
        "UTC", description="Where days begin, for dates in questions: an IANA name."
    )
    max_answers: int = Field(
        64, ge=1, description="Answers written at the same time by this process; more are refused."
    )
    history: int = Field(6, ge=1, le=50, description="So many answers of a conversation are looked at for a new one.")
    conversation_answers: int = Field(200, ge=1, description="Answers of one conversation; then a new one is needed.")
