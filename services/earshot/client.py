"""Earshot from Python: what the command line and assistants use as well.

.. code-block:: python

    from earshot.client import Client

    with Client() as earshot:
        accepted = earshot.ingest("standup.m4a", collection="standups")
        earshot.wait(accepted.id)
        for hit in earshot.search("when do we ship", collection="standups").hits:
            print(hit.title, hit.start_ms, hit.text)

Answers are the models of the HTTP interface. They are imported when the first is made, so that a program that only
looks stays small.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, TypeVar, Unpack
from urllib.parse import quote
from uuid import uuid4

import httpx
from pydantic import BaseModel, ValidationError

from earshot.client_errors import Busy, Forbidden, NotAuthenticated, NotFound, Rejected, TooMany, problem, wait_s
from earshot.kernel.errors import Permanent, Unavailable
from earshot.kernel.ports import SearchMode

if TYPE_CHECKING:
    from earshot.ingest.app import AcceptedView
    from earshot.query.answering.messages import AnswerView
    from earshot.query.messages import SearchAnswer
    from earshot.query.views import JobView, RecordingList, RecordingView

__all__ = [
    "Busy",
    "Client",
    "Forbidden",
    "Format",
    "NotAuthenticated",
    "NotFound",
    "Only",
    "Rejected",
    "TooMany",
    "filters",
]

FINAL = frozenset({"completed", "failed", "cancelled"})
TRANSCRIPTS = frozenset({".json", ".srt", ".vtt"})
"""Files that are read as transcripts."""
TRIES = 6
_DAY_S = 24 * 3600.0
_REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_ASKS = frozenset({"/api/v1/query", "/api/v1/answers"})
"""A POST that changes nothing."""
Format = Literal["txt", "srt", "vtt", "json"]
Model = TypeVar("Model", bound=BaseModel)


class Only(TypedDict, total=False):
    """What every hit, or every citation, must satisfy; what is left out or empty does not restrict."""

    recording_id: str | Sequence[str]
    collection: str
    speaker: str
    language: str
    from_: datetime
    to: datetime


class Client(AbstractContextManager["Client"]):
    """Talks to a running Earshot; close it, or use it in a ``with``. May be shared between threads.

    What is refused for now (429, 503) is sent again when the answer's ``Retry-After`` says so, six times in all at
    most, unless that would take longer than the patience. A 503 to a request that changes something is not
    repeated, because it may have been done; an upload is, since it carries an idempotency key.

    Args:
        url: its origin; by default ``EARSHOT_URL`` or ``http://127.0.0.1:8080``.
        api_key: by default ``EARSHOT_API_KEY``.
        patience_s: so many seconds, at most, are waited before a request is sent again, all told; 0: none is.
        transport: what carries the requests; by default the network.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        patience_s: float = 30.0,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = (url or os.environ.get("EARSHOT_URL") or "http://127.0.0.1:8080").rstrip("/")
        key = api_key if api_key is not None else os.environ.get("EARSHOT_API_KEY", "")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        timeout = httpx.Timeout(30, read=120)
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout, transport=transport)
        self._patience_s, self._sleep = patience_s, sleep

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    # --- what there is ------------------------------------------------------------------------------------------

    def ingest(
        self,
        path: str | Path,
        *,
        title: str | None = None,
        collection: str = "",
        language: str = "",
        task: str = "",
        priority: str = "",
        recorded_at: datetime | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> AcceptedView:
        """Upload a recording, or a transcript of one (JSON, SRT, WebVTT, by its name).

        Args:
            path: of the file.
            title: by default the file's name.
            collection: the caller's own grouping.
            language: BCP 47; empty: detected.
            task: ``transcribe`` or ``translate``; empty: as the collection says.
            priority: ``high``, ``normal`` or ``low``; empty: normal.
            recorded_at: with its time zone.
            metadata: kept and returned.

        Returns:
            The job, to be waited for, and its recording.

        Raises:
            Rejected: it is not taken; code and next step say why.
        """
        from earshot.ingest.app import AcceptedView

        path = Path(path)
        fields = {
            "title": path.stem if title is None else title,
            "collection": collection,
            "language": language,
            "task": task,
            "priority": priority,
            "recorded_at": recorded_at.isoformat() if recorded_at else "",
            "metadata": json.dumps(dict(metadata)) if metadata else "",
        }
        part = "transcript" if path.suffix.lower() in TRANSCRIPTS else "file"
        once = {"Idempotency-Key": uuid4().hex}
        with path.open("rb") as file:
            said = {name: value for name, value in fields.items() if value}
            answer = self.call("POST", "/ingest", files={part: (path.name, file)}, data=said, headers=once)
        return self._read(answer, AcceptedView)

    def job(self, either_id: str) -> JobView:
        """A job by its id or by its recording's. Raises ``NotFound``."""
        from earshot.query.views import JobView

        return self._read(self.call("GET", f"/jobs/{_segment(either_id)}"), JobView)

    def wait(
        self, *job_ids: str, within_s: float = _DAY_S, show: Callable[[JobView], object] | None = None
    ) -> list[JobView]:
        """Return when each job has ended, well or not.

        Args:
            job_ids: of jobs or of their recordings.
            within_s: the deadline.
            show: is told of every look.

        Raises:
            Unavailable: the deadline has passed.
        """
        deadline = time.monotonic() + within_s
        ended: dict[str, JobView] = {}
        while waiting := [job_id for job_id in job_ids if job_id not in ended]:
            for job_id in waiting:
                job = self.job(job_id)
                if show is not None:
                    show(job)
                if job.state in FINAL:
                    ended[job_id] = job
            if len(ended) == len(set(job_ids)):
                break
            if time.monotonic() > deadline:
                raise Unavailable("workers", f"Not done after {within_s:g} s.", next_step="Look with: earshot status")
            self._sleep(min(2.0, 0.2 * len(waiting)))  # five looks a second, however many jobs
        return [ended[job_id] for job_id in job_ids]

    def search(self, query: str, *, top_k: int = 10, mode: SearchMode = "hybrid", **only: Unpack[Only]) -> SearchAnswer:
        """Find what was said; the best passages, best first, each with the second it was said.

        Args:
            query: in plain words.
            top_k: at most so many, 1 to 100.
            mode: by words and meaning, by words alone (``keyword``), or by meaning alone (``vector``).
            only: see :class:`Only`.
        """
        from earshot.query.messages import SearchAnswer

        body = {"query": query, "top_k": top_k, "mode": mode, "filters": filters(only)}
        return self._read(self.call("POST", "/query", json=body), SearchAnswer)

    def ask(
        self, question: str, *, conversation_id: str | None = None, model: bool = True, **only: Unpack[Only]
    ) -> AnswerView:
        """Answer a question from what was said, with citations.

        Args:
            question: in plain words.
            conversation_id: of an earlier answer: this one follows it; ``new`` begins one; ``None`` keeps none.
            model: false: quote the passages themselves, whatever language model there is.
            only: see :class:`Only`.
        """
        from earshot.query.answering.messages import AnswerView

        body = {"question": question, "model": model, "filters": filters(only), "conversation_id": conversation_id}
        return self._read(self.call("POST", "/answers", json=body), AnswerView)

    def transcript(self, recording_id: str, format: Format = "txt") -> str:  # noqa: A002 - the word users know
        """What was said, as text, captions or JSON. Raises ``NotFound``."""
        path = f"/recordings/{_segment(recording_id)}/transcript"
        return self.call("GET", path, params={"format": format}).text

    def recording(self, recording_id: str) -> RecordingView:
        """One recording and its latest job. Raises ``NotFound``."""
        from earshot.query.views import RecordingView

        return self._read(self.call("GET", f"/recordings/{_segment(recording_id)}"), RecordingView)

    def recordings(self, collection: str = "") -> Iterator[RecordingView]:
        """Every recording, or every one of a collection, newest first."""
        cursor: str | None = None
        while True:
            page = self.page(collection, cursor)
            yield from page.items
            cursor = page.next
            if cursor is None:
                return

    def page(self, collection: str = "", cursor: str | None = None, limit: int = 50) -> RecordingList:
        """A page of recordings; ``next`` of it is the cursor of the one behind."""
        from earshot.query.views import RecordingList

        said = {"collection": collection, "cursor": cursor, "limit": limit}
        params = {name: value for name, value in said.items() if value}
        return self._read(self.call("GET", "/recordings", params=params), RecordingList)

    def erase(self, recording_id: str) -> None:
        """Erase a recording: it is not found from now on, and all that was made of it is removed."""
        self.call("DELETE", f"/recordings/{_segment(recording_id)}")

    def recording_id(self, either_id: str) -> str:
        """The recording's id, given either kind of id. Raises ``NotFound``."""
        return self.job(either_id).recording_id

    # --- anything else ------------------------------------------------------------------------------------------

    def call(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Use any operation of the HTTP interface; ``path`` is that below ``/api/v1``.

        Raises:
            Rejected: what a problem document says; by status also ``NotAuthenticated``, ``Forbidden``, ``NotFound`` and
                ``TooMany``.
            Busy: it cannot be done for now (503), and was not until the patience ended.
            Unavailable: nothing answers.
        """
        answer = self._send(method, f"/api/v1{path}", **arguments)
        if answer.is_error:
            raise problem(answer)
        return answer

    def health(self) -> dict[str, Any]:
        """How each dependency and each stage is, well or not. Raises ``Unavailable`` when nothing answers."""
        found: dict[str, Any] = self._once("GET", "/health/ready", stream=False).json()
        return found

    def events(self, path: str, body: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Send a request that is answered with server-sent events; each event's name and data.

        Raises as :meth:`call`, and ``Unavailable`` when the answer breaks off.
        """
        answer = self._send("POST", f"/api/v1{path}", stream=True, json=body)
        try:
            if answer.is_error:
                answer.read()
                raise problem(answer)
            name = ""
            for line in answer.iter_lines():
                field, _, value = line.partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    yield name, json.loads(value)
        except httpx.HTTPError as error:
            raise _away(f"The Earshot at {self.url} does not answer to the end", error) from None
        finally:
            answer.close()

    def _send(self, method: str, path: str, *, stream: bool = False, **arguments: Any) -> httpx.Response:
        """The answer; one that refuses for now is given up when patience or tries end."""
        repeatable = method in _REPEATABLE or path in _ASKS or "Idempotency-Key" in arguments.get("headers", {})
        left = self._patience_s
        for turn in range(TRIES):
            answer = self._once(method, path, stream=stream, **arguments)
            pause = wait_s(answer, turn)
            later = answer.status_code == TooMany.status or (answer.status_code == Busy.status and repeatable)
            if not later or pause > left or turn == TRIES - 1:
                break
            answer.close()
            left -= pause
            self._sleep(pause)
        return answer

    def _once(self, method: str, path: str, *, stream: bool, **arguments: Any) -> httpx.Response:
        try:
            return self._http.send(self._http.build_request(method, path, **arguments), stream=stream)
        except httpx.HTTPError as error:
            raise _away(f"No Earshot answers at {self.url}", error) from None

    def _read(self, answer: httpx.Response, model: type[Model]) -> Model:
        try:
            return model.model_validate_json(answer.content)
        except ValidationError as error:
            raise Permanent(
                f"The Earshot at {self.url} answers in a shape that this version does not know ({model.__name__}, "
                f"{error.error_count()} differences).",
                next_step="Use the client of the server's version; see `GET /api/v1/`.",
            ) from None


def filters(only: Only) -> dict[str, Any]:
    """The filters of a request."""
    said = {name.rstrip("_"): value for name, value in only.items() if value}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in said.items()}


def _segment(id_: str) -> str:
    """An id as one segment of a path, wherever it came from. Raises ``NotFound``: nothing has an id like that."""
    if id_ in ("", ".", ".."):
        raise NotFound(404, f"There is no {id_!r}.", code="not_found", next_step="Use an id that was given.")
    return quote(id_, safe="")


def _away(what: str, error: httpx.HTTPError) -> Unavailable:
    return Unavailable(
        "web",
        f"{what} ({type(error).__name__}).",
        next_step="Start it with `earshot up`, or say where it is with EARSHOT_URL.",
    )
