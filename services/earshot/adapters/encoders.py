"""Which embedding model: the embedder and the query service ask here, so that both use the same one."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field
from pydantic_settings import BaseSettings

from earshot.kernel.errors import Misconfigured
from earshot.kernel.settings import config, load

if TYPE_CHECKING:
    from earshot.kernel.ports import Encoder


class EncoderSettings(BaseSettings):
    """``EARSHOT_EMBEDDER__…``, the part that the query service reads too."""

    model_config = config("EMBEDDER__")

    model: str = Field("wordllama", description="wordllama, bge-m3, or the folder of a model like BGE-M3.")
    model_cache: Path | None = Field(None, description="Where models from the hub are kept; empty: HF_HOME.")
    device: str = Field("", description="cuda:0, cpu, …; empty: the first GPU there is, else the CPU.")


def choose(settings: EncoderSettings | None = None) -> Encoder:
    """The embedding model that the settings name, loaded; ``None`` reads them from the environment.

    Loading takes from a second to a minute: call it in a thread. One process loads a model once.

    Raises:
        Misconfigured: there is no such model, or it cannot be loaded.
        Unavailable: it would have to be downloaded, and the hub does not answer.
    """
    return _load(settings or load(EncoderSettings))


@lru_cache(maxsize=2)  # the one that serves, and the next
def _load(settings: EncoderSettings) -> Encoder:
    family, _, dimensions = settings.model.partition(":")
    if family == "wordllama":
        from earshot.adapters.wordllama import WordLlamaEncoder

        return WordLlamaEncoder(int(dimensions) if dimensions.isdecimal() else 0) if dimensions else WordLlamaEncoder()
    folder = None if settings.model == "bge-m3" else Path(settings.model).expanduser()
    if folder is not None and not folder.is_dir():
        raise Misconfigured(
            f"EARSHOT_EMBEDDER__MODEL is neither wordllama nor bge-m3 nor a folder: {settings.model}",
            next_step="Set it to one of them.",
        )
    from earshot.adapters.bge_m3 import BgeM3Encoder

    return BgeM3Encoder(folder, settings.model_cache, settings.device)
