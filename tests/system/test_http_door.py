"""The door: what it takes, what it refuses, and how it says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from earshot.adapters.web import check_bind
from earshot.ingest.settings import IngestSettings
from earshot.kernel import telemetry
from earshot.kernel.codec import Codec
from earshot.kernel.errors import Misconfigured, Unavailable
from earshot.kernel.topics import AUDIO_UPLOADED
from tests.fakes_catalog import released
from tests.http_app import SRT, WAV, System, settings_for, system


@pytest.fixture
async def web(tmp_path) -> AsyncIterator[System]:
    async with system(tmp_path) as running:
        yield running


def refused(answer: httpx.Response, status: int, code: str) -> dict:
    """The problem of an answer, checked for its whole shape."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    problem = answer.json()
    assert set(problem) == {"type", "title", "status", "detail", "code", "trace_id", "next_step"}
    assert (problem["status"], problem["code"], problem["type"]) == (status, code, f"urn:earshot:problem:{code}")
    assert problem["trace_id"] == answer.headers["x-trace-id"]
    return problem


def blobs_of(web: System) -> list:
    folder = web.kit.settings.data / "blobs"
    return [path for path in folder.rglob("*") if path.is_file()]


# --- what is taken ----------------------------------------------------------------------------------------------


async def test_an_upload_is_accepted_with_a_place_to_look(web):
    answer = await web.client.post("/api/v1/ingest", files={"file": ("a.wav", WAV)}, data={"title": "Lecture"})
    assert answer.status_code == 202
    body = answer.json()
    assert set(body) == {"id", "recording_id", "state", "links"}
    assert body["state"] == "pending"
    assert answer.headers["location"] == body["links"]["job"] == f"/api/v1/jobs/{body['id']}"
    job = (await web.client.get(answer.headers["location"])).json()
    assert (job["id"], job["recording_id"]) == (body["id"], body["recording_id"])
    assert [row.topic for row in await released(web.kit.catalog)] == ["audio.uploaded"]


async def test_every_field_comes_back(web):
    fields = {
        "title": "Größe · 大",
        "collection": "bio 101",
        "language": "de-CH",
        "priority": "low",
        "recorded_at": "2026-03-01T09:00:00+01:00",
        "metadata": '{"lecturer": "A. T."}',
    }
    accepted = await web.upload(**fields)
    recording = (await web.client.get(f"/api/v1/recordings/{accepted['recording_id']}")).json()
    assert (recording["title"], recording["collection"], recording["language"]) == ("Größe · 大", "bio 101", "de-CH")
    assert (recording["recorded_at"], recording["metadata"]) == ("2026-03-01T08:00:00Z", {"lecturer": "A. T."})


async def test_a_task_goes_with_the_upload_and_is_kept_for_the_next_attempt(web):
    accepted = await web.upload(task="translate")
    assert await uploads(web) == ["translate"]
    await web.kit.catalog.cancel("default", accepted["id"], {})
    await web.client.post(f"/api/v1/jobs/{accepted['id']}/retry")
    assert await uploads(web) == ["translate", "translate"]
    answer = await web.client.post("/api/v1/ingest", files={"file": ("a.wav", WAV)}, data={"task": "summarize"})
    assert refused(answer, 422, "invalid_request")["detail"].startswith("task:")


async def uploads(web: System) -> list[str | None]:
    """The task of each upload that the outbox holds."""
    rows = [row for row in await released(web.kit.catalog) if row.topic == "audio.uploaded"]
    return [Codec().decode(AUDIO_UPLOADED, row.value).task for row in rows]


async def test_a_collection_is_told_what_to_listen_for(web):
    path = "/api/v1/collections/bio%20101"
    nothing = {"hotwords": None, "prompt": None, "task": None, "retain_days": None, "segment_audio_days": None}
    assert (await web.client.get(path)).json() == nothing
    first = await web.client.patch(path, json={"hotwords": "mitochondria", "task": "translate"})
    assert first.json() == nothing | {"hotwords": "mitochondria", "task": "translate"}
    await web.client.patch(path, json={"hotwords": None, "prompt": "A lecture."})
    assert (await web.client.get(path)).json() == nothing | {"prompt": "A lecture.", "task": "translate"}
    assert (await web.client.get("/api/v1/collections/other")).json() == nothing


@pytest.mark.parametrize("wish", [{"hotwords": "x" * 1001}, {"task": "sing"}, {"prompt": "a\0b"}, {"beam": 9}])
async def test_a_wish_that_cannot_be_granted_is_refused(web, wish):
    refused(await web.client.patch("/api/v1/collections/talks", json=wish), 422, "invalid_request")
    refused(await web.client.get("/api/v1/collections/-x"), 422, "invalid_request")


async def test_the_same_upload_twice_is_one_recording_with_one_blob(web):
    first, second = await web.upload(), await web.upload()
    assert (first["id"], first["recording_id"]) == (second["id"], second["recording_id"])
    assert len(blobs_of(web)) == 1


async def test_an_idempotency_key_answers_the_same_and_refuses_another_body(web):
    async def send(content: bytes, title: str) -> httpx.Response:
        headers = {"Idempotency-Key": "k1"}
        return await web.client.post(
            "/api/v1/ingest", files={"file": ("a", content)}, data={"title": title}, headers=headers
        )

    first, again = await send(WAV, "a"), await send(WAV, "a")
    assert (again.status_code, again.json()) == (202, first.json())
    refused(await send(WAV, "b"), 422, "idempotency_key_reused")
    refused(await send(WAV + b"x", "a"), 422, "idempotency_key_reused")
    assert len(blobs_of(web)) == 1


async def test_a_transcript_is_readable_at_once_and_enters_behind_the_recognizer(web):
    accepted = await web.send_transcript(language="en")
    topics = {row.topic for row in await released(web.kit.catalog)}
    assert "audio.transcripts" in topics
    assert "audio.uploaded" not in topics
    assert (await web.client.get(accepted["links"]["recording"])).status_code == 200


async def test_the_trace_of_a_recording_begins_at_its_upload(tmp_path, monkeypatch):
    monkeypatch.setattr(telemetry, "tracer", lambda: TracerProvider().get_tracer("test"))
    async with system(tmp_path) as web:
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        answer = await web.client.post("/api/v1/ingest", files={"file": ("a", WAV)}, headers={"traceparent": parent})
        assert answer.headers["x-trace-id"] == "0af7651916cd43dd8448eb211c80319c"
        (row,) = await released(web.kit.catalog)
        headers = dict(row.headers)
        assert headers["traceparent"].split(b"-")[1] == b"0af7651916cd43dd8448eb211c80319c"
        job = (await web.client.get(answer.headers["location"])).json()
        assert job["trace_id"] == "0af7651916cd43dd8448eb211c80319c"


# --- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"hello, I am text", b"", b"\x00" * 50], ids=["text", "empty", "zeros"])
async def test_what_is_not_audio_is_refused_and_not_kept(web, content):
    answer = await web.client.post("/api/v1/ingest", files={"file": ("speech.wav", content)})
    assert refused(answer, 422, "not_audio")["detail"]
    assert blobs_of(web) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("title", "x" * 301),
        ("title", "a\x00b"),
        ("collection", "../other"),
        ("collection", "x" * 64),
        ("language", "english please"),
        ("priority", "urgent"),
        ("recorded_at", "yesterday"),
        ("recorded_at", "2026-03-01T09:00:00"),
        ("metadata", "{"),
        ("metadata", '["list"]'),
        ("metadata", '{"number": 1}'),
        ("metadata", '{"a": "\\ud800"}'),
        ("metadata", "[" * 100_000),
        ("tenant", "someone-else"),
    ],
)
async def test_a_field_that_does_not_fit_is_named(web, name, value):
    answer = await web.client.post("/api/v1/ingest", files={"file": ("a.wav", WAV)}, data={name: value})
    assert name in refused(answer, 422, "invalid_request")["detail"]
    assert blobs_of(web) == []


async def test_a_request_above_the_limit_is_refused_by_its_length_and_by_its_bytes(web):
    web.app.state.ingest.settings = IngestSettings(_env_file=None, max_bytes=1000)
    refused(await web.client.post("/api/v1/ingest", files={"file": ("a.wav", WAV * 100)}), 413, "too_large")

    async def body() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(100):
            yield WAV

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    refused(await web.client.post("/api/v1/ingest", content=body(), headers=headers), 413, "too_large")
    assert blobs_of(web) == []


async def test_a_transcript_above_its_limit_is_refused(web):
    web.app.state.ingest.settings = IngestSettings(_env_file=None, max_transcript_bytes=10)
    refused(await web.client.post("/api/v1/ingest", files={"transcript": ("a.srt", SRT)}), 413, "too_large")


_PART = b"--b\r\nContent-Disposition: form-data"


@pytest.mark.parametrize(
    ("content_type", "body", "status", "code"),
    [
        ("application/json", b"{}", 415, "not_multipart"),
        ("multipart/form-data", b"", 400, "bad_multipart"),
        ("multipart/form-data; boundary=b", b"garbage", 400, "bad_multipart"),
        ("multipart/form-data; boundary=b; charset=idna", b"", 415, "not_multipart"),
        (
            "multipart/form-data; boundary=b",
            _PART + b'; name="file"; filename="a"\r\n\r\nRIFFcut',
            400,
            "bad_multipart",
        ),
        ("multipart/form-data; boundary=b", _PART + b"\r\n\r\nx\r\n--b--\r\n", 400, "bad_multipart"),
        ("multipart/form-data; boundary=b", b"--b--\r\n", 422, "nothing_sent"),
    ],
)
async def test_a_malformed_form_is_refused(web, content_type, body, status, code):
    answer = await web.client.post("/api/v1/ingest", content=body, headers={"Content-Type": content_type})
    refused(answer, status, code)


async def test_an_upload_that_stalls_is_ended_and_frees_its_place(web):
    web.app.state.ingest.settings = IngestSettings(_env_file=None, max_idle_s=0.01)

    async def body() -> AsyncIterator[bytes]:
        yield _PART
        await asyncio.Event().wait()

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    refused(await web.client.post("/api/v1/ingest", content=body(), headers=headers), 408, "upload_stalled")
    assert web.app.state.ingest.receiving == 0


async def test_a_field_sent_twice_is_refused(web):
    answer = await web.client.post("/api/v1/ingest", files=[("file", ("a", WAV)), ("file", ("b", WAV))])
    refused(answer, 422, "invalid_request")


async def test_one_upload_too_many_at_the_same_time_is_asked_to_wait(web):
    web.app.state.ingest.receiving = web.app.state.ingest.settings.max_uploads
    answer = await web.client.post("/api/v1/ingest", files={"file": ("a.wav", WAV)})
    refused(answer, 429, "too_many_uploads")
    assert int(answer.headers["retry-after"]) > 0


async def test_a_dependency_that_does_not_answer_is_a_503_with_a_time_to_come_back(web):
    class Down:
        async def put(self, *_: object) -> bool:
            raise Unavailable("blobs", "The store does not answer.", next_step="Wait.")

    web.kit.blobs = Down()  # type: ignore[assignment]
    answer = await web.client.post("/api/v1/ingest", files={"file": ("a.wav", WAV)})
    refused(answer, 503, "dependency_unavailable")
    assert int(answer.headers["retry-after"]) > 0


async def test_a_bug_is_a_500_that_tells_nothing_of_its_insides(web):
    class Broken:
        async def put(self, *_: object) -> bool:
            raise RuntimeError("secret password in a message")

    web.kit.blobs = Broken()  # type: ignore[assignment]
    answer = await web.client.post("/api/v1/ingest", files={"file": ("a.wav", WAV)})
    refused(answer, 500, "internal_error")
    assert "secret" not in answer.text
    assert web.app.state.ingest.receiving == 0


_TEXT = st.text(max_size=40)
_NAMES = st.sampled_from(
    ["file", "transcript", "title", "collection", "language", "priority", "recorded_at", "metadata"]
)


@pytest.fixture(scope="module")
def standing_door(tmp_path_factory) -> Iterator[Callable[[bytes, list], httpx.Response]]:
    """Sends to one app that lives as long as the module."""
    running = system(tmp_path_factory.mktemp("door"))
    with asyncio.Runner() as runner:
        web = runner.run(running.__aenter__())
        yield lambda body, headers: runner.run(web.client.post("/api/v1/ingest", content=body, headers=headers))
        runner.run(running.__aexit__(None, None, None))


@given(
    parts=st.lists(
        st.tuples(_NAMES | _TEXT, st.none() | _TEXT, st.binary(max_size=80) | _TEXT.map(str.encode)), max_size=5
    ),
    charset=st.sampled_from(["", "; charset=utf-8", "; charset=idna", "; charset=unicode_escape", "; charset=rot13"]),
    key=st.none() | st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=20),
    cut=st.integers(0, 30),
)
@settings(
    max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.reuse, Phase.generate]
)
def test_no_input_makes_the_door_fail(standing_door, parts, charset, key, cut):
    """Random fields and bytes, well-formed or cut short: taken or refused, never a 5xx."""
    body = b""
    for name, filename, value in parts:
        head = f'--b\r\nContent-Disposition: form-data; name="{name}"'
        head += f'; filename="{filename}"' if filename is not None else ""
        body += head.encode("utf-8", "replace") + b"\r\n\r\n" + value + b"\r\n"
    body = (body + b"--b--\r\n")[: -cut or None]
    headers = [(b"content-type", f"multipart/form-data; boundary=b{charset}".encode())]
    headers += [(b"idempotency-key", key.encode("latin-1"))] if key is not None else []
    answer = standing_door(body, headers)
    assert answer.status_code < 500, answer.text
    if answer.status_code != 202:
        assert answer.json()["code"]


# --- who may come in --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.5", "example.org"])
def test_listening_beyond_loopback_without_a_key_is_refused(tmp_path, host):
    with pytest.raises(Misconfigured, match="API key"):
        check_bind(host, settings_for(tmp_path))
    check_bind(host, settings_for(tmp_path, key="k"))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_loopback_needs_no_key(tmp_path, host):
    check_bind(host, settings_for(tmp_path))


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "", "[x"])
async def test_without_a_key_a_foreign_host_name_is_refused(web, host):
    refused(await web.client.get("/api/v1/recordings", headers={"Host": host}), 421, "wrong_host")


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1", "[::1]:8080"])
async def test_without_a_key_loopback_names_are_answered(web, host):
    assert (await web.client.get("/api/v1/recordings", headers={"Host": host})).status_code == 200


async def test_another_site_may_not_change_anything(web):
    foreign, own = {"Origin": "https://evil.example"}, {"Origin": "http://127.0.0.1"}
    files = {"file": ("a.wav", WAV)}
    refused(await web.client.post("/api/v1/ingest", files=files, headers=foreign), 403, "cross_origin")
    assert (await web.client.post("/api/v1/ingest", files=files, headers=own)).status_code == 202
    answer = await web.client.options("/api/v1/ingest", headers=foreign | {"Access-Control-Request-Method": "POST"})
    assert "access-control-allow-origin" not in answer.headers


async def test_with_a_key_nothing_is_shown_without_it(tmp_path):
    async with system(tmp_path, key="s3cret-ü") as web:
        for method, path in [
            ("GET", "/api/v1/"),
            ("GET", "/api/v1/recordings"),
            ("GET", "/api/v1/jobs/x"),
            ("POST", "/api/v1/ingest"),
            ("POST", "/api/v1/query"),
            ("GET", "/api/v1/recordings/x/audio"),
            ("GET", "/metrics"),
        ]:
            for headers in (
                {},
                {"Authorization": "Bearer wrong"},
                {"Authorization": "Basic czM="},
                {"Cookie": "earshot_session=x"},
            ):
                answer = await web.client.request(method, path, headers=headers)
                refused(answer, 401, "not_authenticated")
                assert answer.headers["www-authenticate"] == "Bearer"
        assert (await web.client.get("/health/live")).status_code == 200


async def test_the_key_opens_as_a_header_and_no_cookie_is_ever_set(tmp_path):
    async with system(tmp_path, key="s3cret") as web:
        headers = {"Authorization": "Bearer s3cret", "Host": "earshot.example"}
        for path in ("/api/v1/recordings", "/", "/docs", "/nowhere"):
            answer = await web.client.get(path, headers=headers)
            assert answer.status_code == (404 if path == "/nowhere" else 200)
            assert "set-cookie" not in answer.headers


async def test_every_answer_has_a_trace_id_and_closed_doors(web):
    for path in ("/", "/docs", "/api/v1/recordings", "/nowhere", "/health/live"):
        headers = (await web.client.get(path)).headers
        assert len(headers["x-trace-id"]) == 32
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


async def test_a_wrong_path_and_a_wrong_method_are_problems(web):
    refused(await web.client.get("/api/v1/nowhere"), 404, "not_found")
    answer = await web.client.put("/api/v1/ingest")
    refused(answer, 405, "method_not_allowed")
    assert "POST" in answer.headers["allow"]


async def test_the_kept_trace_of_a_recording_has_the_upload_as_its_root(tmp_path, monkeypatch):
    async with system(tmp_path) as web:
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(telemetry.CatalogExporter(web.kit.catalog)))
        monkeypatch.setattr(telemetry, "tracer", lambda: provider.get_tracer("test"))
        accepted = await web.upload()
        (row,) = await released(web.kit.catalog)
        shown = (await web.client.get(f"{accepted['links']['job']}/trace")).json()
        (root,) = shown["spans"]
        assert (root["name"], root["parent_id"]) == ("POST /api/v1/ingest", None)
        assert dict(row.headers)["traceparent"].decode().split("-")[1:3] == [shown["trace_id"], root["span_id"]]
