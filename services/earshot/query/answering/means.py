"""A question with all that bounds it, and what answers are made with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from earshot.kernel.ports import Encoder, VectorStore
from earshot.kernel.ports.answers import ChatModel, Library
from earshot.query.answering.dates import Period
from earshot.query.answering.prompting import Prompt
from earshot.query.messages import Filters
from earshot.query.search import Judge
from earshot.query.search import Library as Searched


class Knowledge(Searched, Library, Protocol):
    """The part of the catalog that answers read."""


@dataclass(frozen=True)
class Turn:
    """A question of the conversation, as it was understood, and what was answered."""

    question: str
    answer: str
    period: Period | None = None


@dataclass(frozen=True)
class Asked:
    """A question, and where its answer may come from.

    Attributes:
        within: the only collections that are looked in; ``None``: all of the tenant.
        now: the present, in the zone in which days begin; ``None``: dates in the question restrict nothing.
        history: the conversation, oldest first.
        max_tokens: the longest answer of a model.
    """

    question: str
    filters: Filters
    tenant: str
    within: tuple[str, ...] | None = None
    now: datetime | None = None
    history: Sequence[Turn] = ()
    use_model: bool = True
    max_tokens: int = 700


@dataclass(frozen=True)
class Limits:
    """How much an answer may take in."""

    passages: int = 8
    context_tokens: int = 3000
    deadline_s: float = 60.0


@dataclass(frozen=True)
class Means:
    """What answers are made with.

    Attributes:
        models: asked in this order, each when the one before failed.
    """

    encoder: Encoder
    vectors: VectorStore
    library: Knowledge
    judge: Judge | None
    models: Sequence[ChatModel]
    instructions: Prompt
    rewriting: Prompt
    limits: Limits = field(default_factory=Limits)
