"""Which embedding model: the embedder and the query service ask here, so that both use the same one."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from earshot.adapters.remote import RemoteSettings
from earshot.kernel.errors import Misconfigured
from earshot.kernel.settings import config, load

if TYPE_CHECKING:
    from earshot.kernel.ports import Encoder


class EncoderSettings(RemoteSettings):
    """``EARSHOT_EMBEDDER__…``, the part that the query service reads too."""

    model_config = config("EMBEDDER__")

    model: str = Field(
        "wordllama",
        description="wordllama, wordllama:128, minilm, bge-m3, the folder of one like it; with a URL, a name there.",
    )
    model_cache: Path | None = Field(None, description="Where models from the hub are kept; empty: HF_HOME.")
    device: str = Field("", description="cuda:0, cpu, …; empty: the first GPU there is, else the CPU.")
    url: str = Field(
        "",
        pattern=r"^(https?://\S+)?$",
        description="Server with OpenAI's API, up to before /embeddings: https://api.openai.com/v1; empty: here.",
    )
    dimensions: int = Field(0, ge=0, le=8192, description="Of the vectors of the server at that URL.")
    batch_texts: int = Field(32, ge=1, le=2048, description="Passages in one request to the server at that URL.")


def choose(settings: EncoderSettings | None = None) -> Encoder:
    """The embedding model that the settings name, loaded; ``None`` reads them from the environment.

    Loading takes from a second to a minute: call it in a thread. One process loads a model once.

    Raises:
        Misconfigured: there is no such model, or it cannot be loaded.
        Unavailable: it would have to be downloaded, and the hub does not answer.
    """
    return _load(settings or load(EncoderSettings))


def about(encoder: Encoder) -> dict[str, Any]:
    """What a worker says of its encoder: the model, and where it runs if that may differ from what was asked for."""
    device = getattr(encoder, "device", None)
    if device is None:
        return {"model": encoder.model}
    runs = {"device": device.name, "degraded": bool(device.reason), "reason": device.reason}
    return {"model": encoder.model, "engine": {"name": "FlagEmbedding", "model": encoder.model, **runs}}


@lru_cache(maxsize=2)  # the one that serves, and the next
def _load(settings: EncoderSettings) -> Encoder:
    if settings.url:
        from earshot.adapters.remote_embedder import RemoteEncoder

        model = "" if settings.model == "wordllama" else settings.model  # the default names none of theirs
        return RemoteEncoder(settings, model, settings.dimensions, settings.batch_texts)
    family, _, dimensions = settings.model.partition(":")
    if family == "wordllama":
        from earshot.adapters.wordllama import WordLlamaEncoder

        return WordLlamaEncoder(int(dimensions) if dimensions.isdecimal() else 0) if dimensions else WordLlamaEncoder()
    if settings.model == "minilm":
        from earshot.adapters.minilm import MiniLmEncoder

        return MiniLmEncoder()
    folder = None if settings.model == "bge-m3" else Path(settings.model).expanduser()
    if folder is not None and not folder.is_dir():
        raise Misconfigured(
            f"EARSHOT_EMBEDDER__MODEL is neither wordllama, minilm, bge-m3 nor a folder: {settings.model}",
            next_step="Set it to one of them.",
        )
    from earshot.adapters.bge_m3 import BgeM3Encoder

    return BgeM3Encoder(folder, settings.model_cache, settings.device)
