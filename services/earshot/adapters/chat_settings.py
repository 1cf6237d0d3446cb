"""Which models answer, where they are, and what they may cost."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from earshot.adapters.remote import RemoteSettings
from earshot.kernel.settings import config

OPENAI, ANTHROPIC = "EARSHOT_ANSWERS__OPENAI", "EARSHOT_ANSWERS__ANTHROPIC"
BYTES_A_TOKEN = 3
"""For estimates: English has more than four bytes a token, most other languages about three, so this errs upwards."""
EVENT_BYTES = 1024
"""The longest that servers write the event of one token, with room to spare."""


class ProviderSettings(RemoteSettings):
    """What every provider of models has."""

    model: str = Field("", description="The model's name there; empty: this provider is not used.")
    timeout_s: float = Field(20.0, gt=0, description="Longest wait for the beginning of an answer, of each try.")
    idle_s: float = Field(15.0, gt=0, description="Longest wait between two pieces of an answer.")
    temperature: float | None = Field(None, ge=0, le=2, description="Empty: the server's own.")
    tokens_a_day: int = Field(0, ge=0, description="At most so many tokens a day (UTC), in and out; 0: no limit.")
    tenant_tokens_a_day: int = Field(0, ge=0, description="At most so many of them for one tenant; 0: no limit.")
    cost_a_day: float = Field(0.0, ge=0, description="At most so much a day, in the currency of the prices; 0: any.")
    price_in: float = Field(0.0, ge=0, description="Price of a million tokens that are sent.")
    price_out: float = Field(0.0, ge=0, description="Price of a million tokens that are answered.")


class OpenAISettings(ProviderSettings):
    """``EARSHOT_ANSWERS__OPENAI__…``: any server that speaks OpenAI's Chat Completions."""

    model_config = config("ANSWERS__OPENAI__")

    url: str = Field(
        "",
        pattern=r"^(https?://\S+)?$",
        description="Up to before /chat/completions: http://127.0.0.1:11434/v1, https://api.openai.com/v1.",
    )
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = Field(
        "max_tokens", description="What the server calls the longest answer; OpenAI's reasoning models want the second."
    )


class AnthropicSettings(ProviderSettings):
    """``EARSHOT_ANSWERS__ANTHROPIC__…``: Anthropic's Messages API."""

    model_config = config("ANSWERS__ANTHROPIC__")

    url: str = Field(
        "", pattern=r"^(https?://\S+)?$", description="Up to before /v1/messages: https://api.anthropic.com."
    )


def estimated(*texts: str) -> int:
    """About how many tokens texts have."""
    return sum(-(-len(text.encode()) // BYTES_A_TOKEN) for text in texts)


def most_bytes(max_tokens: int) -> int:
    """More than an answer of so many tokens takes on the wire."""
    return (max_tokens + 64) * EVENT_BYTES
