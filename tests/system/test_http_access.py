"""Keys, scopes, collections, limits and the audit log, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from earshot.kernel import access
from earshot.kernel.errors import Unavailable
from earshot.kernel.ports.access import ApiKey
from tests.http_app import WAV, System, system

ADMIN = {"Authorization": "Bearer the-admin"}


@pytest.fixture
async def web(tmp_path) -> AsyncIterator[System]:
    """Closed by EARSHOT_API_KEY; the client sends it unless told otherwise."""
    async with system(tmp_path, key="the-admin", headers=ADMIN) as running:
        yield running


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def made(web: System, **wished: Any) -> dict[str, Any]:
    """A new key, as the answer shows it."""
    answer = await web.client.post("/api/v1/keys", json={"name": "a key"} | wished)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def key_of(web: System, **wished: Any) -> dict[str, str]:
    """The header with a new key."""
    return bearer((await made(web, **wished))["key"])


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


# --- keys -------------------------------------------------------------------------------------------------------


async def test_a_key_is_shown_once_and_stored_nowhere(web, tmp_path):
    key = await made(web, name="page", scopes=["write", "read"])
    assert access.is_key(key["key"])
    assert (key["scopes"], key["collections"], key["created_by"]) == (["read", "write"], None, "environment")
    (listed,) = (await web.client.get("/api/v1/keys")).json()["items"]
    assert listed == {name: value for name, value in key.items() if name != "key"}
    stored = (tmp_path / "catalog.sqlite").read_bytes()
    assert key["key"].encode() not in stored
    assert access.hash_of(key["key"]).encode() in stored


async def test_a_key_opens_until_it_is_revoked_and_says_when_it_was_used(web):
    key = await made(web)
    assert (await web.client.get("/api/v1/recordings", headers=bearer(key["key"]))).status_code == 200
    await web.app.state.doorkeeper.trail.flush()
    (listed,) = (await web.client.get("/api/v1/keys")).json()["items"]
    assert datetime.fromisoformat(listed["last_used_at"]) > datetime.fromisoformat(listed["created_at"])
    assert (await web.client.delete(f"/api/v1/keys/{key['id']}")).json()["revoked_at"]
    refused = await web.client.get("/api/v1/recordings", headers=bearer(key["key"]))
    assert code(refused) == (401, "not_authenticated")


async def test_a_revocation_elsewhere_is_known_within_a_second(web):
    key = await made(web)
    clock = [0.0]
    web.app.state.doorkeeper.ring._clock = lambda: clock[0]
    assert (await web.client.get("/api/v1/recordings", headers=bearer(key["key"]))).status_code == 200
    await web.kit.catalog.revoke_key("default", key["id"])
    clock[0] = 1.0
    assert (await web.client.get("/api/v1/recordings", headers=bearer(key["key"]))).status_code == 401


async def test_a_key_that_has_expired_opens_nothing(web):
    text, at = access.new_key(), datetime.now(UTC)
    await web.kit.catalog.create_tenant("default")
    over = ApiKey("default", "key_1", "key", "old", "", ("read",), None, at, "environment", expires_at=at)
    await web.kit.catalog.add_key(over, access.hash_of(text))
    assert code(await web.client.get("/api/v1/recordings", headers=bearer(text))) == (401, "not_authenticated")
    past = (at - timedelta(days=1)).isoformat()
    assert code(await web.client.post("/api/v1/keys", json={"name": "x", "expires_at": past})) == (
        422,
        "invalid_request",
    )


async def test_a_rotated_key_is_like_the_old_one_which_goes_on_as_long_as_wished(web):
    old = await made(web, scopes=["read"], collections=["bio"])
    new = (await web.client.post(f"/api/v1/keys/{old['id']}/rotate", json={"overlap_hours": 1})).json()
    assert (new["name"], new["scopes"], new["collections"]) == (old["name"], old["scopes"], old["collections"])
    for key in (old, new):
        assert (await web.client.get("/api/v1/recordings", headers=bearer(key["key"]))).status_code == 200
    newest = (await web.client.post(f"/api/v1/keys/{new['id']}/rotate", json={})).json()
    opened = [await web.client.get("/api/v1/recordings", headers=bearer(key["key"])) for key in (new, newest)]
    assert [answer.status_code for answer in opened] == [401, 200]
    again = await web.client.post(f"/api/v1/keys/{new['id']}/rotate", json={})
    assert code(again) == (404, "unknown_key")


@pytest.mark.parametrize(
    "wished",
    [
        {"scopes": []},
        {"scopes": ["root"]},
        {"name": ""},
        {"collections": []},
        {"collections": ["a"], "scopes": ["admin"]},
        {"tenant": "Not A Tenant"},
        {"surprise": 1},
    ],
)
async def test_a_key_that_makes_no_sense_is_refused(web, wished):
    assert code(await web.client.post("/api/v1/keys", json={"name": "a"} | wished)) == (422, "invalid_request")


async def test_a_key_that_is_no_key_is_not_looked_up(web, tmp_path):
    good = (await made(web))["key"]
    mistyped = good[:-1] + ("0" if good[-1] != "0" else "1")
    looked_up = []
    web.app.state.doorkeeper.ring._keys = lambda: looked_up.append(1)
    for text in (mistyped, "earshot_", "earshot_" + "x" * 49, "earshot_" + "é" * 49, "x" * 9000):
        assert (await web.client.get("/api/v1/recordings", headers=bearer(text.encode("utf-8")))).status_code == 401
    assert looked_up == []


# --- scopes and collections -------------------------------------------------------------------------------------


async def test_each_scope_opens_its_own_and_nothing_else(web):
    accepted = await web.upload()
    recording = f"/api/v1/recordings/{accepted['recording_id']}"
    tries = {
        "read": ("GET", recording, {}),
        "write": ("POST", f"/api/v1/jobs/{accepted['id']}/retry", {}),
        "admin": ("GET", "/api/v1/keys", {}),
        "erase": ("DELETE", recording, {}),
    }
    for held in access.SCOPES:
        header = await key_of(web, scopes=[held])
        for needed, (method, path, more) in tries.items():
            answer = await web.client.request(method, path, headers=header, **more)
            if needed == held:
                assert answer.status_code != 403, (held, needed)
            else:
                assert code(answer) == (403, "scope_missing"), (held, needed)
                assert answer.headers["www-authenticate"] == f'Bearer error="insufficient_scope", scope="{needed}"'
    searched = await web.client.post("/api/v1/query", json={"query": ""}, headers=await key_of(web, scopes=["read"]))
    assert code(searched) == (422, "invalid_request"), "a search reads, though it is a POST"


async def test_every_operation_says_which_scope_it_needs(web):
    document = (await web.client.get("/openapi.json")).json()
    needed = {
        f"{method.upper()} {path}": operation["x-access"]["scope"]
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if "security" in operation
    }
    assert needed["POST /api/v1/ingest"] == "write"
    assert needed["POST /api/v1/query"] == "read"
    assert needed["DELETE /api/v1/recordings/{id}"] == "erase"
    open_to_all = {
        path for path, methods in document["paths"].items() for one in methods.values() if "security" not in one
    }
    assert open_to_all == {"/health/live", "/health/ready"}
    for path in document["paths"]:
        if path.startswith(("/api/v1/keys", "/api/v1/tenants", "/api/v1/audit")):
            assert {scope for name, scope in needed.items() if name.endswith(f" {path}")} == {"admin"}


async def test_a_key_of_a_collection_sees_and_takes_nothing_else(web):
    mine = await web.upload(WAV + b"1", collection="mine", title="my title")
    other = await web.upload(WAV + b"2", collection="other", title="canary")
    header = await key_of(web, scopes=["read", "write", "erase"], collections=["mine"])
    page = await web.client.get("/api/v1/recordings", headers=header)
    assert [item["title"] for item in page.json()["items"]] == ["my title"]
    assert (await web.client.get("/api/v1/recordings?collection=other", headers=header)).json()["items"] == []
    unknown = await web.client.get("/api/v1/recordings/00000000-0000-4000-8000-000000000000", headers=header)
    for either in (other["id"], other["recording_id"]):
        for method, path in [
            ("GET", f"/recordings/{either}"),
            ("GET", f"/recordings/{either}/transcript"),
            ("GET", f"/recordings/{either}/audio"),
            ("GET", f"/recordings/{either}/speakers"),
            ("GET", f"/jobs/{either}"),
            ("GET", f"/jobs/{either}/events"),
            ("GET", f"/jobs/{either}/trace"),
            ("DELETE", f"/jobs/{either}"),
            ("POST", f"/jobs/{either}/retry"),
            ("DELETE", f"/recordings/{either}"),
        ]:
            answer = await web.client.request(method, f"/api/v1{path}", headers=header)
            assert code(answer) == (404, "unknown_recording"), path
            assert answer.json()["detail"] == unknown.json()["detail"]
    assert (await web.client.get(f"/api/v1/recordings/{mine['id']}/audio", headers=header)).status_code == 200
    files = {"file": ("a.wav", WAV + b"3")}
    taken = await web.client.post("/api/v1/ingest", files=files, data={"collection": "mine"}, headers=header)
    refused = await web.client.post("/api/v1/ingest", files=files, data={"collection": "other"}, headers=header)
    assert (taken.status_code, code(refused)) == (202, (403, "collection_not_allowed"))
    for path in ("/collections/other", "/dead-letters"):
        answer = await web.client.get(f"/api/v1{path}", headers=header)
        assert code(answer) == (403, "collection_not_allowed"), path
    everything = await web.client.post("/api/v1/reprocess", json={"degraded": True}, headers=header)
    assert code(everything) == (403, "collection_not_allowed")
    assert (await web.client.get("/api/v1/collections/mine", headers=header)).status_code == 200


async def test_only_who_runs_the_system_makes_tenants_and_keys_for_them(web):
    answer = await web.client.post("/api/v1/tenants", json={"id": "school"})
    assert (answer.status_code, answer.json()["id"]) == (201, "school")
    assert code(await web.client.post("/api/v1/keys", json={"name": "a", "tenant": "nowhere"})) == (
        404,
        "unknown_tenant",
    )
    admin = await key_of(web, tenant="school", scopes=["read", "admin"])
    about = (await web.client.get("/api/v1/", headers=admin)).json()
    assert (about["tenant"], about["scopes"]) == ("school", ["admin", "read"])
    own = await web.client.post("/api/v1/keys", json={"name": "a"}, headers=admin)
    assert own.json()["tenant"] == "school"
    for tenant in ("default", "nowhere"):
        elsewhere = await web.client.post("/api/v1/keys", json={"name": "a", "tenant": tenant}, headers=admin)
        assert code(elsewhere) == (404, "unknown_tenant")
    for method, path, body in (("GET", "/tenants", None), ("POST", "/tenants", {"id": "x"})):
        answer = await web.client.request(method, f"/api/v1{path}", json=body, headers=admin)
        assert code(answer) == (403, "operator_needed")
    assert code(await web.client.get("/metrics", headers=admin)) == (403, "operator_needed")
    assert [tenant["id"] for tenant in (await web.client.get("/api/v1/tenants")).json()["items"]] == ["school"]


async def test_a_ticket_plays_audio_and_opens_nothing_else(web):
    mine, other = [await web.upload(WAV + name.encode(), collection=name) for name in ("mine", "other")]
    key = await made(web, collections=["mine"])
    ticket = (await web.client.post("/api/v1/tickets", headers=bearer(key["key"]))).json()["ticket"]
    del web.client.headers["Authorization"]

    async def status(path: str, **headers: str) -> int:
        return (await web.client.get(path, headers=headers)).status_code

    audio = f"{mine['links']['audio']}?ticket={ticket}"
    assert await status(audio, Range="bytes=0-3") == 206
    assert await status(f"{other['links']['audio']}?ticket={ticket}") == 404
    assert await status(f"{mine['links']['transcript']}?ticket={ticket}") == 401
    assert await status(mine["links"]["audio"], **bearer(ticket)) == 401
    assert await status(f"{mine['links']['audio']}?ticket={key['key']}") == 401
    assert await status(f"{mine['links']['audio']}?ticket=") == 401
    await web.client.delete(f"/api/v1/keys/{key['id']}", headers=ADMIN)
    assert await status(audio) == 401


async def test_on_loopback_without_a_key_everyone_runs_the_system_and_keys_are_still_heeded(tmp_path):
    async with system(tmp_path) as web:
        about = (await web.client.get("/api/v1/")).json()
        assert (about["tenant"], about["scopes"]) == ("default", sorted(access.SCOPES))
        await web.client.post("/api/v1/tenants", json={"id": "school"})
        header = await key_of(web, tenant="school")
        assert (await web.client.get("/api/v1/", headers=header)).json()["tenant"] == "school"
        assert code(await web.client.get("/api/v1/keys", headers=header)) == (403, "scope_missing")
        assert (await web.client.get("/api/v1/", headers=bearer(access.new_key()))).status_code == 401
        assert (
            await web.client.get("/api/v1/", headers=bearer("what clients send who must send something"))
        ).is_success


# --- limits -----------------------------------------------------------------------------------------------------


async def test_one_request_too_many_is_told_when_to_come_back_and_others_go_on(tmp_path, monkeypatch):
    monkeypatch.setenv("EARSHOT_LIMITS__OTHER", "3")
    async with system(tmp_path, key="the-admin", headers=ADMIN) as web:
        one, other = await key_of(web), await key_of(web)
        answers = [await web.client.get("/api/v1/recordings", headers=one) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert [answer.headers["ratelimit"].split(";")[:2] for answer in answers] == [
            ['"other"', f"r={left}"] for left in (2, 1, 0, 0)
        ]
        assert {answer.headers["ratelimit-policy"] for answer in answers} == {'"other";q=3;w=60'}
        assert code(answers[-1]) == (429, "rate_limited")
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
        assert (await web.client.get("/api/v1/recordings", headers=other)).status_code == 200
        searched = await web.client.post("/api/v1/query", json={"query": ""}, headers=one)
        assert (searched.status_code, searched.headers["ratelimit-policy"]) == (422, '"search";q=600;w=60')


async def test_keys_that_open_nothing_are_counted_by_address(tmp_path, monkeypatch):
    monkeypatch.setenv("EARSHOT_LIMITS__UNKNOWN", "2")
    async with system(tmp_path, key="the-admin") as web:
        tries = [bearer(f"wrong {n}") for n in range(2)] + [{}]
        answers = [await web.client.get("/api/v1/recordings", headers=header) for header in tries]
        assert [answer.status_code for answer in answers] == [401, 401, 429]
        assert (await web.client.get("/api/v1/recordings", headers=ADMIN)).status_code == 200


async def test_on_loopback_without_a_key_nothing_is_counted(tmp_path, monkeypatch):
    monkeypatch.setenv("EARSHOT_LIMITS__OTHER", "1")
    async with system(tmp_path) as web:
        answers = [await web.client.get("/api/v1/recordings") for _ in range(3)]
        assert {answer.status_code for answer in answers} == {200}
        assert "ratelimit" not in answers[0].headers


async def test_a_body_is_read_as_far_as_it_may_be_and_no_further(tmp_path, monkeypatch):
    monkeypatch.setenv("EARSHOT_WEB__MAX_BODY_BYTES", "1000")
    read = []

    async def body() -> AsyncIterator[bytes]:
        for _ in range(1000):
            read.append(1)
            yield b" " * 100

    async with system(tmp_path) as web:
        for content_type in ("application/json", "multipart/form-data; boundary=b", "text/plain"):
            read.clear()
            answer = await web.client.post("/api/v1/query", content=body(), headers={"Content-Type": content_type})
            assert code(answer) == (413, "too_large")
            assert "EARSHOT_WEB__MAX_BODY_BYTES" in answer.json()["next_step"]
            assert len(read) < 20
        assert (await web.client.post("/api/v1/ingest", files={"file": ("a.wav", WAV * 100)})).status_code == 202


async def test_too_many_headers_are_refused(web):
    answer = await web.client.get("/api/v1/recordings", headers={f"x-{n}": "1" for n in range(101)})
    assert code(answer) == (431, "too_many_headers")


# --- other sites ------------------------------------------------------------------------------------------------


async def test_another_site_gets_nothing_unless_it_is_named(tmp_path, monkeypatch):
    friend, stranger = {"Origin": "https://app.example"}, {"Origin": "https://evil.example"}
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    async with system(tmp_path / "closed") as web:
        for origin in (friend, stranger):
            asked = await web.client.options("/api/v1/query", headers=origin | preflight)
            seen = await web.client.get("/api/v1/recordings", headers=origin)
            assert not [name for name in (*asked.headers, *seen.headers) if name.startswith("access-control-")]
    monkeypatch.setenv("EARSHOT_WEB__CORS_ORIGINS", '["https://app.example"]')
    async with system(tmp_path / "open") as web:
        asked = await web.client.options("/api/v1/query", headers=friend | preflight)
        assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, "https://app.example")
        assert "access-control-allow-credentials" not in asked.headers
        changed = await web.client.post("/api/v1/ingest", files={"file": ("a.wav", WAV)}, headers=friend)
        assert (changed.status_code, changed.headers["access-control-allow-origin"]) == (202, "https://app.example")
        for method, path in (("OPTIONS", "/api/v1/query"), ("GET", "/api/v1/recordings")):
            answer = await web.client.request(method, path, headers=stranger | preflight)
            assert "access-control-allow-origin" not in answer.headers
        assert code(await web.client.post("/api/v1/ingest", headers=stranger)) == (403, "cross_origin")


async def test_every_answer_closes_what_a_browser_would_open(web):
    for path, status in (("/", 200), ("/api/v1/recordings", 200), ("/api/v1/nowhere", 404), ("/api/v1/jobs/x", 404)):
        answer = await web.client.get(path)
        assert answer.status_code == status
        said = answer.headers
        assert "frame-ancestors 'none'" in said["content-security-policy"]
        assert "default-src 'none'" in said["content-security-policy"]
        assert (said["x-content-type-options"], said["referrer-policy"]) == ("nosniff", "no-referrer")
        assert "set-cookie" not in said


# --- the audit log ----------------------------------------------------------------------------------------------


async def test_who_read_and_erased_what_is_on_record_without_content_or_address(web):
    accepted = await web.upload(title="the canary")
    reader = await made(web, scopes=["read", "erase"])
    recording = f"/api/v1/recordings/{accepted['recording_id']}"
    for _ in range(2):
        await web.client.get(f"{recording}/audio", headers=bearer(reader["key"]))
    await web.client.delete(f"/api/v1/jobs/{accepted['id']}", headers=bearer(reader["key"]))
    await web.client.delete(recording, headers=bearer(reader["key"]))
    log = (await web.client.get("/api/v1/audit", params={"key_id": reader["id"]})).json()
    assert [(entry["action"], entry["status"]) for entry in log["items"]] == [
        ("DELETE /api/v1/recordings/{id}", 0),
        ("DELETE /api/v1/jobs/{id}", 403),
        ("GET /api/v1/recordings/{id}/audio", 200),
    ]
    assert {tuple(entry["recordings"]) for entry in log["items"][:1]} == {(accepted["recording_id"],)}
    assert {entry["address"] for entry in log["items"]} == {"127.0.0.0/24"}
    everything = (await web.client.get("/api/v1/audit")).text
    assert "canary" not in everything
    assert "127.0.0.1" not in everything
    narrowed = (
        await web.client.get("/api/v1/audit", params={"recording_id": accepted["recording_id"], "limit": 1})
    ).json()
    rest = (await web.client.get("/api/v1/audit", params={"cursor": narrowed["next"]})).json()
    assert narrowed["items"][0]["id"] > rest["items"][0]["id"]


async def test_nothing_is_erased_that_cannot_be_put_on_record(web):
    accepted = await web.upload()
    write_audit = web.kit.catalog.write_audit

    async def fails(_entries: object) -> None:
        raise Unavailable("catalog", "The catalog does not answer.")

    web.kit.catalog.write_audit = fails
    recording = f"/api/v1/recordings/{accepted['recording_id']}"
    assert (await web.client.delete(recording)).status_code == 503
    assert (await web.client.get(recording)).status_code == 200
    web.kit.catalog.write_audit = write_audit
    assert (await web.client.delete(recording)).status_code == 204
