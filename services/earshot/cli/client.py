"""The CLI's side of the HTTP interface."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from earshot.kernel.errors import EarshotError, Permanent, Unavailable

FINAL = frozenset({"completed", "failed", "cancelled"})


class Client:
    """Talks to a running Earshot.

    Args:
        url: its origin; by default ``EARSHOT_URL`` or ``http://127.0.0.1:8080``.
        api_key: by default ``EARSHOT_API_KEY``.
    """

    def __init__(self, url: str | None = None, api_key: str | None = None) -> None:
        self.url = (url or os.environ.get("EARSHOT_URL") or "http://127.0.0.1:8080").rstrip("/")
        key = api_key if api_key is not None else os.environ.get("EARSHOT_API_KEY", "")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=httpx.Timeout(30, read=120))

    def call(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Send a request. Raises ``Unavailable`` when nothing answers, ``Permanent`` with what a problem says."""
        answer = self._send(method, f"/api/v1{path}", **arguments)
        if answer.is_error:
            raise _problem(answer)
        return answer

    def health(self) -> dict[str, Any]:
        """How each dependency and each stage is, well or not. Raises ``Unavailable`` when nothing answers."""
        found: dict[str, Any] = self._send("GET", "/health/ready").json()
        return found

    def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise Unavailable(
                "web",
                f"No Earshot answers at {self.url} ({type(error).__name__}).",
                next_step="Start it with `earshot up`, or say where it is with EARSHOT_URL.",
            ) from None

    def events(self, path: str, body: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Send a request that is answered with server-sent events; each event's name and data.

        Raises ``Unavailable`` when nothing answers or the answer breaks off, ``Permanent`` with what a problem says.
        """
        try:
            with self._http.stream("POST", f"/api/v1{path}", json=body) as answer:
                if answer.is_error:
                    answer.read()
                    raise _problem(answer)
                name = ""
                for line in answer.iter_lines():
                    field, _, value = line.partition(": ")
                    if field == "event":
                        name = value
                    elif field == "data":
                        yield name, json.loads(value)
        except httpx.HTTPError as error:
            raise Unavailable(
                "web",
                f"The Earshot at {self.url} does not answer to the end ({type(error).__name__}).",
                next_step="Start it with `earshot up`, or say where it is with EARSHOT_URL.",
            ) from None

    def add(self, path: Path, fields: dict[str, str]) -> dict[str, Any]:
        """Upload a file; returns the accepted job."""
        part = "transcript" if path.suffix.lower() in {".json", ".srt", ".vtt"} else "file"
        with path.open("rb") as file:
            answer = self.call("POST", "/ingest", files={part: (path.name, file)}, data=fields)
        accepted: dict[str, Any] = answer.json()
        return accepted

    def job(self, either_id: str) -> dict[str, Any]:
        """A job by its id or by its recording's."""
        job: dict[str, Any] = self.call("GET", f"/jobs/{either_id}").json()
        return job

    def wait(self, job_ids: list[str], show: Callable[[dict[str, Any]], None], within_s: float) -> list[dict[str, Any]]:
        """Poll jobs until each has ended, showing every look. Raises ``Unavailable`` after the deadline."""
        deadline, ended = time.monotonic() + within_s, dict[str, dict[str, Any]]()
        while len(ended) < len(job_ids):
            for job_id in job_ids:
                if job_id not in ended:
                    job = self.job(job_id)
                    show(job)
                    if job["state"] in FINAL:
                        ended[job_id] = job
            if time.monotonic() > deadline:
                raise Unavailable("workers", f"Not done after {within_s:g} s.", next_step="Look with: earshot status")
            time.sleep(0.2)
        return [ended[job_id] for job_id in job_ids]

    def recordings(self) -> Iterator[dict[str, Any]]:
        """Every recording, newest first."""
        cursor: str | None = None
        while True:
            page = self.call("GET", "/recordings", params={"cursor": cursor} if cursor else {}).json()
            yield from page["items"]
            cursor = page["next"]
            if cursor is None:
                return

    def recording_id(self, either_id: str) -> str:
        """The recording's id, given either kind of id."""
        return str(self.job(either_id)["recording_id"])


def _problem(answer: httpx.Response) -> EarshotError:
    try:
        body = answer.json()
        return Permanent(
            str(body.get("detail") or body.get("title")),
            next_step=str(body.get("next_step") or ""),
            code=str(body.get("code")),
        )
    except (ValueError, AttributeError):
        return Permanent(f"HTTP {answer.status_code} from {answer.request.url}: {answer.text[:200]}")
