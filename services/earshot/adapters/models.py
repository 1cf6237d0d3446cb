"""Speech models on this disk: which there are, what they need, where they lie, and how they get here."""

from __future__ import annotations

import io
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import structlog
from pydantic import Field
from pydantic_settings import BaseSettings

from earshot.kernel.errors import Permanent, Unavailable
from earshot.kernel.settings import config, load

HUB_TIMEOUT_S = 3.0
Progress = Callable[[int, int], None]
"""Called with the bytes that are here and the bytes there will be, as far as is known."""

_NEEDED = ("config.json", "model.bin", "tokenizer.json")
_PATTERNS = [*_NEEDED, "preprocessor_config.json", "vocabulary.*"]


class ModelSettings(BaseSettings):
    """Where speech models come from."""

    model_config = config("TRANSCRIBER__")

    model_dir: Path | None = Field(
        None, description="Folder of model folders (or one model's folder); unset: the Hugging Face cache."
    )
    hub: str = Field(
        "auto",
        pattern=r"^(auto|off|https?://.+)$",
        description="Where models are downloaded from: auto (Hugging Face, or HF_ENDPOINT), a mirror, or off: no call.",
    )


@dataclass(frozen=True)
class _Known:
    repository: str
    disk_mb: int
    what: str


# Sizes: the file lists of the repositories on the hub, read in November 2026 (MB = 10^6 bytes).
_KNOWN = {
    "tiny": _Known("Systran/faster-whisper-tiny", 78, "speech, 99 languages: fastest, least accurate"),
    "base": _Known("Systran/faster-whisper-base", 148, "speech, 99 languages: the default on a CPU"),
    "small": _Known("Systran/faster-whisper-small", 486, "speech, 99 languages: better, for a fast CPU"),
    "medium": _Known("Systran/faster-whisper-medium", 1530, "speech, 99 languages"),
    "large-v3": _Known("Systran/faster-whisper-large-v3", 3090, "speech, 99 languages: most accurate, for a GPU"),
    "turbo": _Known("mobiuslabsgmbh/faster-whisper-large-v3-turbo", 1620, "speech, 99 languages: the default on a GPU"),
}


@dataclass(frozen=True)
class Model:
    """A row of ``earshot models list``; ``path`` is ``None`` when it is not on this disk."""

    name: str
    what: str
    disk: str
    memory: str
    path: str | None


def list_models(settings: ModelSettings | None = None) -> list[Model]:
    """Every model known by name: what it needs, and where it lies."""
    settings = settings or load(ModelSettings)
    return [
        Model(name, known.what, _size(known.disk_mb), _size(_memory_mb(known.disk_mb)), _text(path(name, settings)))
        for name, known in _KNOWN.items()
    ]


def path(name: str, settings: ModelSettings | None = None) -> Path | None:
    """Where a model lies on this disk, ``None`` when it does not. Never calls the hub.

    Args:
        name: a known name, a repository (``owner/name``), or a folder.
        settings: by default those of the environment.

    Raises:
        Permanent: code ``unknown_model`` for a name that is none of these.
    """
    settings = settings or load(ModelSettings)
    if _complete(Path(name)):
        return Path(name)
    repository = _repository(name)
    if settings.model_dir is not None:
        folders = (settings.model_dir / _folder(name), settings.model_dir)
        return next((folder for folder in folders if _complete(folder)), None)
    return _cached(repository)


def pull(name: str, progress: Progress | None = None, settings: ModelSettings | None = None) -> Path:
    """Download a model, or go on with a download that was cut short; one that is here already is left as it is.

    Raises:
        Permanent: code ``unknown_model``.
        Unavailable: the hub is off, does not answer, or wants a licence to be accepted first.
    """
    settings = settings or load(ModelSettings)
    if (found := path(name, settings)) is not None:
        return found
    if find_spec("huggingface_hub") is None:
        raise Unavailable("engine", "Speech engines are not installed.", next_step="pip install 'earshot[asr]'")
    endpoint = hub(settings)
    if endpoint is None:
        raise Unavailable(
            "engine",
            f"The model {name} is not on this disk and EARSHOT_TRANSCRIBER__HUB is off.",
            next_step=f"Copy it into EARSHOT_TRANSCRIBER__MODEL_DIR, or pull it with the hub on: {_command(name)}",
        )
    if not answers(endpoint):
        raise Unavailable(
            "engine",
            f"The model hub {endpoint} does not answer.",
            next_step=f"Run {_command(name)} where it does, or name a folder that has it in "
            "EARSHOT_TRANSCRIBER__MODEL_DIR.",
        )
    return _download(name, endpoint, settings.model_dir, progress)


def hub(settings: ModelSettings) -> str | None:
    """The URL that models come from, ``None`` when it is off."""
    if settings.hub != "auto":
        return None if settings.hub == "off" else settings.hub.rstrip("/")
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


@cache
def answers(endpoint: str) -> bool:
    """Whether the hub answers within ``HUB_TIMEOUT_S``, name resolution included. Asked once a process."""
    import httpx

    answer: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def ask() -> None:
        try:
            httpx.head(endpoint, timeout=HUB_TIMEOUT_S)
        except (httpx.HTTPError, httpx.InvalidURL, OSError):
            answer.put(False)
        else:
            answer.put(True)

    threading.Thread(target=ask, name="model hub", daemon=True).start()
    try:
        return answer.get(timeout=HUB_TIMEOUT_S)
    except queue.Empty:
        return False


def _download(name: str, endpoint: str, model_dir: Path | None, progress: Progress | None) -> Path:
    """Fetch what an engine needs of a repository and nothing else."""
    import httpx
    from huggingface_hub import errors, snapshot_download

    repository = _repository(name)
    structlog.get_logger().info("downloading a model", repository=repository, hub=endpoint)
    try:
        folder = snapshot_download(
            repository,
            endpoint=endpoint,
            allow_patterns=_PATTERNS,
            local_dir=model_dir / _folder(name) if model_dir else None,
            tqdm_class=_progress_bar(progress),
        )
    except errors.GatedRepoError:
        raise Unavailable(
            "engine",
            f"{repository} is gated: its licence has to be accepted first.",
            next_step=f"Accept it at {endpoint}/{repository}, set HF_TOKEN, then run {_command(name)} again.",
        ) from None
    except errors.RepositoryNotFoundError:
        raise Permanent(f"The hub has no repository {repository}.", code="unknown_model") from None
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, httpx.HTTPError, OSError) as error:
        raise Unavailable(
            "engine",
            f"The download of {repository} broke off ({type(error).__name__}).",
            next_step=f"Run {_command(name)} again: it goes on where it stopped.",
        ) from None
    if not _complete(Path(folder)):
        raise Permanent(f"{repository} is no faster-whisper model: it lacks one of {', '.join(_NEEDED)}.")
    return Path(folder)


def _progress_bar(progress: Progress | None) -> Any:
    """A silent progress bar that tells ``progress`` how many bytes are here."""
    from tqdm import tqdm  # type: ignore[import-untyped]  # ships none

    class Bar(tqdm):  # type: ignore[misc]  # untyped
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "file": io.StringIO()})

        def update(self, n: float | None = 1) -> bool | None:
            changed: bool | None = super().update(n)
            if progress is not None and self.unit == "B":
                progress(int(self.n), int(self.total or 0))
            return changed

    return Bar


def _cached(repository: str) -> Path | None:
    """The newest whole snapshot in the Hugging Face cache."""
    if find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import errors, snapshot_download

    try:
        folder = Path(snapshot_download(repository, allow_patterns=_PATTERNS, local_files_only=True))
    except errors.LocalEntryNotFoundError:
        return None
    return folder if _complete(folder) else None


def _repository(name: str) -> str:
    if name in _KNOWN:
        return _KNOWN[name].repository
    if name.count("/") == 1 and not name.startswith(("/", ".")):
        return name
    raise Permanent(
        f"There is no model {name!r}.",
        next_step=f"Known are {', '.join(_KNOWN)}; any other by owner/name on the hub, or by its folder.",
        code="unknown_model",
    )


def _folder(name: str) -> str:
    return name.replace("/", "--")


def _complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in _NEEDED)


def _memory_mb(disk_mb: int) -> int:
    """Of a process with int8 weights: half of the float16 file, and working memory.

    The constant fits both figures of faster-whisper's README: small on a CPU 1477 MB, large-v2 on a GPU 2926 MB.
    """
    return disk_mb // 2 + 1300


def _size(megabytes: int) -> str:
    return f"{megabytes} MB" if megabytes < 1000 else f"{megabytes / 1000:.1f} GB"


def _text(folder: Path | None) -> str | None:
    return None if folder is None else str(folder)


def _command(name: str) -> str:
    return f"`earshot models pull {name}`"
