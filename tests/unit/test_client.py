"""What the client does with refusals, with ids of others, and with answers that it does not know."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from earshot.client import Busy, Client, Forbidden, NotAuthenticated, NotFound, Rejected, TooMany
from earshot.kernel.errors import EarshotError, Permanent, Transient, Unavailable

FOUND = {"hits": [], "took_ms": 1, "trace_id": "t"}
ACCEPTED = {
    "id": "j", "recording_id": "r", "state": "pending",
    "links": {"job": "", "events": "", "recording": "", "transcript": "", "audio": ""},
}  # fmt: skip


def refusal(status: int, code: str = "some_code", after: str | None = None) -> httpx.Response:
    body = {"code": code, "detail": "The cause.", "next_step": "Do this.", "trace_id": "abc", "status": status}
    return httpx.Response(status, json=body, headers={} if after is None else {"Retry-After": after})


class Server:
    """Answers as scripted, the last for ever; keeps what it was sent, and how long the client waited."""

    def __init__(self, *answers: httpx.Response | Callable[[httpx.Request], httpx.Response]) -> None:
        self.answers, self.seen, self.waits = list(answers), list[httpx.Request](), list[float]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.seen.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return answer(request) if callable(answer) else answer

    def client(self, **arguments) -> Client:
        transport = httpx.MockTransport(self)
        return Client("http://earshot.test", "earshot_key", transport=transport, sleep=self.waits.append, **arguments)


@pytest.mark.parametrize("status", [429, 503])
def test_what_is_refused_for_now_is_sent_again_when_the_answer_says_so(status):
    server = Server(refusal(status, after="7"), refusal(status, after="2"), httpx.Response(200, json=FOUND))
    assert server.client().search("x").hits == []
    assert server.waits == [7, 2]


def test_without_a_hint_it_waits_longer_from_turn_to_turn_and_gives_up():
    server = Server(refusal(503))
    with pytest.raises(Busy):
        server.client().search("x")
    assert server.waits == [0.5, 1, 2, 4, 8]
    assert len(server.seen) == 6


def test_it_does_not_wait_for_what_is_further_off_than_its_patience():
    server = Server(refusal(429, "daily_minutes_used_up", after="40000"))
    with pytest.raises(TooMany) as refused:
        server.client().search("x")
    assert (server.waits, refused.value.code, refused.value.after_s) == ([], "daily_minutes_used_up", 40000)


def test_what_may_have_been_done_is_not_done_again():
    server = Server(refusal(503, after="1"))
    with pytest.raises(Busy):
        server.client().call("POST", "/keys", json={"name": "x"})
    assert len(server.seen) == 1


def test_an_upload_is_sent_again_whole_and_under_one_idempotency_key(tmp_path: Path):
    file = tmp_path / "talk.vtt"
    file.write_bytes(b"WEBVTT\n\nall of it" * 1000)
    server = Server(refusal(503, after="1"), httpx.Response(202, json=ACCEPTED))
    at = datetime(2026, 3, 1, tzinfo=UTC)
    taken = server.client().ingest(file, collection="talks", recorded_at=at, metadata={"by": "Ada"})
    assert taken.recording_id == "r"
    first, second = server.seen
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    for request in server.seen:
        assert b'name="transcript"; filename="talk.vtt"' in request.content
        assert request.content.count(b"all of it") == 1000
        assert b"2026-03-01T00:00:00+00:00" in request.content


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, NotAuthenticated), (403, Forbidden), (404, NotFound), (409, Rejected), (422, Rejected), (500, Rejected)],
)
def test_a_problem_is_an_error_of_its_kind_with_code_and_next_step(status: int, kind: type[Rejected]):
    with pytest.raises(kind) as refused:
        Server(refusal(status)).client().ask("x")
    error = refused.value
    assert type(error) is kind
    assert isinstance(error, Permanent)
    assert (error.status, error.code, error.detail, error.next_step, error.trace_id) == (
        status, "some_code", "The cause.", "Do this.", "abc",
    )  # fmt: skip


def test_who_may_try_again_is_told_apart():
    assert issubclass(Busy, Transient)
    assert issubclass(TooMany, Permanent)


@pytest.mark.parametrize(
    "answer",
    [httpx.Response(502, text="<html>Bad gateway"), httpx.Response(418, json=["no", "problem"]), refusal(404, "")],
)
def test_an_error_that_is_no_problem_document_is_an_error_all_the_same(answer):
    with pytest.raises(EarshotError):
        Server(answer).client().search("x")


def test_an_answer_of_another_version_is_named():
    with pytest.raises(Permanent, match="SearchAnswer, 3 differences") as unknown:
        Server(httpx.Response(200, json={"something": "else"})).client().search("x")
    assert "version" in unknown.value.next_step


@pytest.mark.parametrize("hostile", ["../keys", "a/../../keys", "..", ".", "", "x?format=json", "x#y", "a%2Fb"])
def test_an_id_never_leads_to_another_path(hostile: str):
    server = Server(refusal(404))
    for use in (Client.transcript, Client.job, Client.recording, Client.erase):
        with pytest.raises(NotFound):
            use(server.client(), hostile)
    for request in server.seen:
        path = request.url.raw_path.decode().removesuffix("?format=txt")
        parts = path.split("/")
        assert parts[:3] == ["", "api", "v1"]
        assert parts[3] in ("jobs", "recordings")
        assert len(parts) == (6 if parts[-1] == "transcript" else 5)
        assert not {"", ".", ".."} & set(parts[4:])
        assert "?" not in path


def test_the_key_comes_from_the_argument_or_the_environment(monkeypatch):
    server = Server(httpx.Response(200, json=FOUND))
    server.client().search("x")
    monkeypatch.setenv("EARSHOT_API_KEY", "earshot_environment")
    monkeypatch.setenv("EARSHOT_URL", "http://elsewhere.test/")
    Client(transport=httpx.MockTransport(server)).search("x")
    assert [request.headers["Authorization"] for request in server.seen] == [
        "Bearer earshot_key", "Bearer earshot_environment",
    ]  # fmt: skip
    assert str(server.seen[1].url) == "http://elsewhere.test/api/v1/query"


def test_where_nothing_answers_it_says_how_to_start_it():
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(Unavailable) as away:
        Server(refuse).client().search("x")
    assert "earshot up" in away.value.next_step


def test_a_deadline_of_a_wait_is_kept():
    job = {
        "id": "j", "recording_id": "r", "revision": 1, "state": "pending", "segments_total": None, "stages": {},
        "error": None, "trace_id": "", "version": 1, "created_at": "2026-03-01T00:00:00Z",
        "updated_at": "2026-03-01T00:00:00Z", "links": {},
    }  # fmt: skip
    looks = []
    server = Server(httpx.Response(200, json=job))
    with pytest.raises(Unavailable):
        server.client().wait("j", within_s=-1, show=looks.append)
    assert [look.id for look in looks] == ["j"]
    assert server.client().wait() == []


def test_it_imports_without_the_web_framework():
    """A program that only looks pays for no server."""
    script = "import sys, earshot.client; print({'fastapi', 'sqlalchemy', 'mcp'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "set()", done.stderr
