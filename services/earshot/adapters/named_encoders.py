"""Encoders by the names under which the catalog keeps them: an index is of one model for as long as it lives."""

from __future__ import annotations

from pathlib import Path

from earshot.adapters.encoders import EncoderSettings, choose
from earshot.kernel import ids
from earshot.kernel.errors import Misconfigured
from earshot.kernel.ports import Encoder
from earshot.kernel.ports.indexes import Index, NewIndex
from earshot.kernel.settings import load

REMOTE = "remote:"
"""Before the name of a model of the server at ``EARSHOT_EMBEDDER__URL``."""


def wished() -> str:
    """The name of the encoder that the settings ask for."""
    settings = load(EncoderSettings)
    return REMOTE + settings.model if settings.url else _place(settings.model)


def other_wish(index: Index) -> str:
    """The encoder that the settings name although another one's index serves; empty when they name none or this."""
    said = load(EncoderSettings).model_fields_set & {"model", "url"}
    return wished() if said and wished() != index.encoder else ""


def named(name: str) -> Encoder:
    """The encoder of a name, loaded; call it in a thread.

    Raises:
        Misconfigured: there is no such model, or it cannot be loaded.
        Unavailable: it would have to be downloaded, and the hub does not answer.
    """
    settings = load(EncoderSettings)
    if not name.startswith(REMOTE):
        return choose(settings.model_copy(update={"model": _place(name), "url": ""}))
    if not settings.url:
        raise Misconfigured(
            f"The model {name} is a server's, and EARSHOT_EMBEDDER__URL is not set.", next_step="Set it to the server."
        )
    return choose(settings.model_copy(update={"model": name.removeprefix(REMOTE)}))


def index_for(name: str, encoder: Encoder) -> NewIndex:
    """The index that an encoder's vectors belong to."""
    place = name if name.startswith(REMOTE) else _place(name)
    return NewIndex(ids.index_name(encoder.model, encoder.dimensions), place, encoder.model, encoder.dimensions)


def encoder_of(index: Index) -> Encoder:
    """The encoder of an index, loaded; call it in a thread.

    Raises:
        Misconfigured: what is found under its name today makes vectors of another index.
        Unavailable: it would have to be downloaded, and the hub does not answer.
    """
    encoder = named(index.encoder)
    if (found := ids.index_name(encoder.model, encoder.dimensions)) != index.name:
        raise Misconfigured(
            f"The index {index.name} was made with {index.encoder}, which would now fill {found}.",
            next_step=f"Bring the old model back, or build another index: earshot reindex --embedder {index.encoder}",
        )
    return encoder


def _place(name: str) -> str:
    """A folder by its whole path, so that every process finds the same."""
    folder = Path(name).expanduser()
    return str(folder.resolve()) if folder.is_dir() else name
