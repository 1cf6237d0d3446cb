"""The model hub: whether it answers, what of it is in the cache, and downloads that end in one clear sentence."""

from __future__ import annotations

import errno
import io
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import structlog

from earshot.adapters.breaker import Breaker
from earshot.kernel.errors import EarshotError, Permanent, Unavailable

HUB_TIMEOUT_S = 3.0
Progress = Callable[[int, int], None]
"""Called with the bytes that are here and the bytes there will be, as far as is known."""
_breakers: dict[str, Breaker] = {}


@dataclass(frozen=True)
class Parcel:
    """What of a repository is wanted, and where it goes.

    Attributes:
        repository: ``owner/name``.
        allow: patterns of the files that are needed; empty: all.
        ignore: patterns of those that are not.
        cache: folder of the cache; ``None``: as Hugging Face's own settings say.
        folder: a folder of its own instead of the cache.
    """

    repository: str
    allow: Sequence[str] = ()
    ignore: Sequence[str] = ()
    cache: Path | None = None
    folder: Path | None = None


def breaker(endpoint: str) -> Breaker:
    """The one breaker of a hub in this process: three failures, and it is left alone for two minutes."""
    return _breakers.setdefault(endpoint, Breaker())


def answers(endpoint: str) -> bool:
    """Whether the hub answers within ``HUB_TIMEOUT_S``, name resolution included; not asked while it rests."""
    import httpx

    if not breaker(endpoint).allows:
        return False
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
        found = answer.get(timeout=HUB_TIMEOUT_S)
    except queue.Empty:
        breaker(endpoint).trip()  # asking three times would be a start that takes ten seconds
        return False
    if found:
        breaker(endpoint).succeeded()
    else:
        breaker(endpoint).failed()
    return found


def cached(parcel: Parcel) -> Path | None:
    """The newest snapshot of a repository in the cache. It may lack files: a download may have been cut short."""
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(snapshot_download(parcel.repository, local_files_only=True, **_where(parcel)))
    except (errors.LocalEntryNotFoundError, errors.HFValidationError):
        return None


def download(parcel: Parcel, endpoint: str, again: str, progress: Progress | None = None) -> Path:
    """Fetch what is wanted of a repository and nothing else; go on where a download was cut short.

    Args:
        parcel: what, and where to.
        endpoint: URL of the hub.
        again: what to do to try once more, for the next step.
        progress: told how far it is.

    Raises:
        Unavailable: it is gated, refused, there is no room, or the hub does not answer.
        Permanent: code ``unknown_model``: there is no such repository.
    """
    import httpx
    from huggingface_hub import errors, snapshot_download

    structlog.get_logger().info("downloading a model", repository=parcel.repository, hub=endpoint)
    try:
        folder = snapshot_download(
            parcel.repository, endpoint=endpoint, tqdm_class=_progress_bar(progress), **_where(parcel)
        )
    except errors.HFValidationError as error:
        raise Permanent(f"{parcel.repository!r} is no name on the hub: {error}", code="unknown_model") from None
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, httpx.HTTPError, OSError) as error:
        cause = error.__cause__ if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ else error
        if isinstance(cause, errors.HfHubHTTPError):
            raise _refused(parcel.repository, endpoint, again, cause) from None
        raise _broken_off(parcel.repository, endpoint, again, cause) from None
    breaker(endpoint).succeeded()
    return Path(folder)


def _where(parcel: Parcel) -> dict[str, Any]:
    return {
        "allow_patterns": list(parcel.allow) or None,
        "ignore_patterns": list(parcel.ignore) or None,
        "cache_dir": None if parcel.cache is None else str(parcel.cache),
        "local_dir": None if parcel.folder is None else str(parcel.folder),
    }


def _refused(repository: str, endpoint: str, again: str, error: Any) -> EarshotError:
    """What an HTTP error of the hub means. Without a token a gated repository may look like none."""
    from huggingface_hub import errors

    status = error.response.status_code if error.response is not None else 0
    if isinstance(error, errors.GatedRepoError):
        return Unavailable(
            "engine",
            f"{repository} is gated: its licence has to be accepted first.",
            next_step=f"Accept it at {endpoint}/{repository}, set HF_TOKEN, then {again}.",
        )
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return Unavailable(
            "engine",
            f"The hub {endpoint} does not give {repository} to us (it answered {status}).",
            next_step=f"Check the name; if it is private or gated, set HF_TOKEN to one that may read it, then {again}.",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return Permanent(f"The hub has no repository {repository}.", code="unknown_model")
    return _broken_off(repository, endpoint, again, error, said=f"the hub answered {status}" if status else "")


def _broken_off(repository: str, endpoint: str, again: str, error: BaseException, said: str = "") -> EarshotError:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return Unavailable("engine", f"There is no room on this disk for {repository}.", next_step="Make room.")
    breaker(endpoint).failed()
    return Unavailable(
        "engine",
        f"The download of {repository} broke off ({said or type(error).__name__}).",
        next_step=f"To try again, {again}: it goes on where it stopped.",
    )


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
