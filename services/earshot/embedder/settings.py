"""Settings of the embedder; the query service reads the model's, so that both use the same one."""

from __future__ import annotations

from pydantic import Field

from earshot.adapters.encoders import EncoderSettings


class EmbedderSettings(EncoderSettings):
    """``EARSHOT_EMBEDDER__…``: which model, and what is embedded by it."""

    passage_max_words: int = Field(120, ge=4, le=500, description="Of a passage, where the collection says nothing.")
    passage_overlap_words: int = Field(0, ge=0, le=250, description="Shared by neighbours, at most half a passage.")
    batch_events: int = Field(32, ge=1, le=1024, description="Segments embedded in one call of the model.")
    batch_age_s: float = Field(0.0, ge=0, le=10, description="How long the first segment of a batch waits for more.")
