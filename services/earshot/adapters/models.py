"""Models on this disk: which there are, what they need, where they lie, and how they get here."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings

from earshot.adapters import hub as hubs
from earshot.adapters.hub import Parcel, Progress, answers
from earshot.adapters.known_models import KNOWN, NOT_NEEDED, PATTERNS, Kind, Known, by_name, complete, memory_mb, size
from earshot.kernel.errors import Misconfigured, Permanent, Unavailable
from earshot.kernel.settings import config, load

__all__ = ["Model", "ModelSettings", "answers", "hub", "list_models", "path", "pull", "setting_of"]


class ModelSettings(BaseSettings):
    """Where models come from."""

    model_config = config("TRANSCRIBER__")

    model_dir: Path | None = Field(
        None, description="Folder of speech models' folders (or one model's folder); unset: the Hugging Face cache."
    )
    hub: str = Field(
        "auto",
        pattern=r"^(auto|off|https?://.+)$",
        description="Where models are downloaded from: auto (Hugging Face, or HF_ENDPOINT), a mirror, or off: no call.",
    )


@dataclass(frozen=True)
class Model:
    """A row of ``earshot models list``; ``path`` is ``None`` when it is not on this disk."""

    name: str
    kind: Kind
    what: str
    disk: str
    memory: str
    path: str | None


def list_models(settings: ModelSettings | None = None) -> list[Model]:
    """Every model known by name: what it needs, and where it lies."""
    settings = settings or load(ModelSettings)
    return [
        Model(name, known.kind, known.what, size(known.disk_mb), size(memory_mb(known)), _text(path(name, settings)))
        for name, known in KNOWN.items()
    ]


def path(name: str, settings: ModelSettings | None = None) -> Path | None:
    """Where a model lies on this disk, ``None`` when it does not. Never calls the hub.

    Args:
        name: a known name, a repository (``owner/name``, taken for a speech model), or a folder.
        settings: by default those of the environment.

    Raises:
        Permanent: code ``unknown_model`` for a name that is none of these.
    """
    settings = settings or load(ModelSettings)
    if complete(Path(name), "speech"):
        return Path(name)
    known = by_name(name)
    if known.package:
        return _inside(known.package)
    if known.kind == "speech" and settings.model_dir is not None:
        folders = (settings.model_dir / _folder(name), settings.model_dir)
        return next((folder for folder in folders if complete(folder, known.kind)), None)
    if find_spec("huggingface_hub") is None:
        return None
    found = hubs.cached(_parcel(known))
    return found if found is not None and complete(found, known.kind) else None


def pull(
    name: str, progress: Progress | None = None, settings: ModelSettings | None = None, into: Path | None = None
) -> Path:
    """Download a model, or go on with a download that was cut short; one that is here already is left as it is.

    Args:
        name: as :func:`path` takes it.
        progress: told how far it is.
        settings: by default those of the environment.
        into: a folder of model folders, to be taken to a machine without a hub; by default where it is looked for.

    Raises:
        Permanent: code ``unknown_model``.
        Unavailable: the hub is off, does not answer, or wants a licence to be accepted first; or there is no room.
        Misconfigured: it comes with a package that is not installed.
    """
    settings = settings or load(ModelSettings)
    known = by_name(name) if not complete(Path(name), "speech") else None
    if into is None and (found := path(name, settings)) is not None:
        return found
    if known is None:
        return Path(name)
    if known.package:
        return _inside(known.package) or _not_installed(known)
    parcel = _parcel(known, _target(name, known, settings, into))
    if parcel.folder is not None and complete(parcel.folder, known.kind):
        return parcel.folder
    endpoint = _endpoint(name, settings)
    _check_room(known, parcel)
    folder = hubs.download(parcel, endpoint, f"run {_command(name)}", progress)
    if not complete(folder, known.kind):
        raise Permanent(f"{known.repository} is no model for {known.kind}: files are missing in it.")
    return folder


def hub(settings: ModelSettings) -> str | None:
    """The URL that models come from, ``None`` when it is off."""
    if settings.hub != "auto":
        return None if settings.hub == "off" else settings.hub.rstrip("/")
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def setting_of(name: str) -> str:
    """The variable that takes the folder of a model that was pulled into one of its own."""
    return by_name(name).setting or "EARSHOT_TRANSCRIBER__MODEL_DIR"


def _endpoint(name: str, settings: ModelSettings) -> str:
    """The hub, once it is sure that it answers."""
    if find_spec("huggingface_hub") is None:
        raise Unavailable("engine", "Speech engines are not installed.", next_step="pip install 'earshot[asr]'")
    endpoint = hub(settings)
    if endpoint is None:
        raise Unavailable(
            "engine",
            f"The model {name} is not on this disk and EARSHOT_TRANSCRIBER__HUB is off.",
            next_step=f"Pull it with the hub on, {_command(name)}, or name a folder that has it in {setting_of(name)}.",
        )
    if not answers(endpoint):
        raise Unavailable(
            "engine",
            f"The model hub {endpoint} does not answer.",
            next_step=f"Run {_command(name)} where it does, or name a folder that has it in {setting_of(name)}.",
        )
    return endpoint


def _target(name: str, known: Known, settings: ModelSettings, into: Path | None) -> Path | None:
    """The folder of its own that a model goes into; ``None``: the cache."""
    base = into or (settings.model_dir if known.kind == "speech" else None)
    return None if base is None else base / _folder(name)


def _parcel(known: Known, folder: Path | None = None) -> Parcel:
    if known.kind == "speech":
        return Parcel(known.repository, allow=PATTERNS, folder=folder)
    return Parcel(known.repository, ignore=NOT_NEEDED, cache=_cache(known.kind), folder=folder)


def _cache(kind: Kind) -> Path | None:
    """Where the engines of a kind look, if not in the common cache."""
    if kind == "embedding":
        from earshot.adapters.encoders import EncoderSettings

        return load(EncoderSettings).model_cache
    if kind == "reranking":
        from earshot.adapters.rerankers import RerankerSettings

        return load(RerankerSettings).model_cache
    return None


def _check_room(known: Known, parcel: Parcel) -> None:
    """Look for room before a download begins, where its size and place are known."""
    if known.disk_mb and parcel.folder is not None:
        place = next(folder for folder in (parcel.folder, *parcel.folder.absolute().parents) if folder.exists())
        free_mb = shutil.disk_usage(place).free // 10**6
        if free_mb < known.disk_mb:
            raise Unavailable(
                "engine",
                f"{known.repository} needs {size(known.disk_mb)}, and {place} has {size(free_mb)} left.",
                next_step="Make room, or name another folder.",
            )


def _inside(package: str) -> Path | None:
    """The folder of a package that brings its model with it."""
    found = find_spec(package)
    return Path(found.origin).parent if found is not None and found.origin else None


def _not_installed(known: Known) -> Path:
    extra = "asr" if known.kind == "speech" else "local"
    raise Misconfigured(
        f"{known.package} brings its model with it, and is not installed.",
        next_step=f"Install it: pip install 'earshot[{extra}]'",
    )


def _folder(name: str) -> str:
    return name.replace("/", "--")


def _text(folder: Path | None) -> str | None:
    return None if folder is None else str(folder)


def _command(name: str) -> str:
    return f"`earshot models pull {name}`"
