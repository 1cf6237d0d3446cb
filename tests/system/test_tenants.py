"""Two tenants, a canary of one in everything it has, and the other looking for it everywhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.system.conftest import EXAMPLES, System
from tests.waiting import eventually_sync

NOBODY = "00000000-0000-4000-8000-000000000000"
MOST_TRIES = 40
TRANSCRIPT = {
    "language": "en",
    "segments": [
        {"start_ms": 0, "end_ms": 4000, "speaker": "SPEAKER_00", "text": "The wombat of the library sleeps, said {c}."},
        {"start_ms": 4000, "end_ms": 9000, "speaker": "SPEAKER_01", "text": "Then {c} wakes the wombat again."},
    ],
}


@dataclass
class Party:
    """A tenant, or a key of one: a client, its canary, and every name of what it has."""

    tenant: str
    http: httpx.Client
    canary: str
    names: dict[str, list[str]] = field(default_factory=dict)

    def get(self, path: str, **params: Any) -> Any:
        return self.http.get(path, params=params).raise_for_status().json()


def party(system: System, tenant: str, **wished: Any) -> Party:
    """A tenant with a key that may do everything, or what is wished."""
    system.http.post("/tenants", json={"id": tenant}).raise_for_status()
    body = {"name": "all", "scopes": ["read", "write", "erase", "admin"], "tenant": tenant} | wished
    key = system.http.post("/keys", json=body).raise_for_status().json()
    http = httpx.Client(
        base_url=f"http://127.0.0.1:{system.port}/api/v1",
        headers={"Authorization": f"Bearer {key['key']}"},
        timeout=60,
    )
    return Party(tenant, http, f"canary{uuid4().hex[:12]}", {"key": [key["id"]]})


def send(one: Party, collection: str) -> dict[str, Any]:
    """A transcript beside audio, the canary in every field."""
    text = json.dumps(TRANSCRIPT).replace("{c}", one.canary)
    files = {"file": ("a.flac", (EXAMPLES / "jfk.flac").read_bytes()), "transcript": ("a.json", text.encode())}
    fields = {
        "title": f"wombat {one.canary}",
        "collection": collection,
        "metadata": json.dumps({"who": one.canary}),
        "language": "en",
    }
    headers = {"Idempotency-Key": f"the same for both, {collection}"}
    return dict(one.http.post("/ingest", files=files, data=fields, headers=headers).raise_for_status().json())


def fill(system: System, one: Party, collection: str) -> None:
    """Everything that a tenant can have, each with its canary."""
    accepted = send(one, collection)
    recording = accepted["recording_id"]
    lost = str(uuid4())
    event = {"tenant": one.tenant, "recording_id": lost, "title": one.canary}
    event["uri"] = (system.data / "blobs" / one.tenant / "foreign" / f"{one.canary}.flac").as_uri()
    assert system.cli("events", "publish", "audio.uploaded", input=json.dumps(event)).returncode == 0
    one.http.patch(f"/collections/{collection}", json={"hotwords": one.canary}).raise_for_status()
    eventually_sync(lambda: one.get(f"/jobs/{recording}")["state"] == "completed", within=120)
    eventually_sync(lambda: bool(one.get("/dead-letters")["items"]), within=120)
    correct(one, recording)
    one.http.patch(f"/recordings/{recording}/speakers", json={"SPEAKER_00": one.canary}).raise_for_status()
    one.http.post("/keys", json={"name": one.canary}).raise_for_status()
    question = {"question": "What does the wombat of the library do?", "conversation_id": "new"}
    answer = one.http.post("/answers", json=question).raise_for_status().json()
    pages = [one.get("/recordings", limit=1), one.get("/audit", limit=1)]
    one.names |= {
        "id": [
            recording,
            accepted["id"],
            lost,
            one.get("/dead-letters")["items"][0]["id"],
            one.names["key"][0],
            answer["conversation_id"],
            answer["id"],
        ],
        "tenant": [one.tenant],
        "collection": [collection],
        "model": [collection],
        "cursor": [page["next"] for page in pages if page["next"]],
        "revision": ["1"],
        "tag": [one.canary],
    }


def correct(one: Party, recording: str) -> None:
    """A tag, and a correction; what was said before stays readable."""
    one.http.patch(f"/recordings/{recording}", json={"tags": [one.canary]}).raise_for_status()
    corrected = {"segments": [{"index": 1, "text": f"Then {one.canary} wakes the wombat once more."}]}
    one.http.patch(f"/recordings/{recording}/transcript", json=corrected).raise_for_status()
    eventually_sync(lambda: one.get(f"/jobs/{recording}")["state"] == "completed", within=120)


# --- every operation --------------------------------------------------------------------------------------------


def bodies(one: Party) -> dict[str, list[dict[str, Any]]]:
    """What is sent to each operation that takes a body, with the names of what another has."""
    ids, collection = one.names["id"], one.names["collection"][0]
    recording, letter = ids[0], ids[3]
    filters: list[dict[str, Any]] = [{}, {"recording_id": recording}, {"collection": collection}]
    filters.append({"speaker": one.canary})
    queries = [{"query": "wombat of the library", "filters": each} for each in filters]
    queries += [{"query": "wombat of the library", "mode": mode} for mode in ("keyword", "vector")]
    questions = [{"question": "What does the wombat of the library do?", "filters": each} for each in filters[:3]]
    questions += [{"question": "How often is the wombat mentioned?"}]
    questions += [{"question": "And then?", "conversation_id": each} for each in ids[5:]]
    chat = {"messages": [{"role": "user", "content": "What does the wombat of the library do?"}]}
    return {
        "POST /api/v1/query": queries,
        "POST /api/v1/query/batch": [{"queries": queries}],
        "POST /api/v1/answers": questions,
        "POST /v1/chat/completions": [chat | {"model": model} for model in ("earshot", collection)],
        "PATCH /api/v1/collections/{collection}": [{"task": None}],
        "POST /api/v1/dead-letters/replay": [{"ids": [letter]}, {"all": True}, {"all": True, "recording_id": ids[2]}],
        "POST /api/v1/dead-letters/drop": [{"ids": [letter]}, {"all": True}, {"all": True, "recording_id": ids[2]}],
        "POST /api/v1/reprocess": [{"collection": collection, "dry_run": True}, {"collection": collection}],
        "PATCH /api/v1/recordings/{id}": [{"title": "mine"}, {"recorded_at": "2026-03-01T09:00:00Z"}],
        "PATCH /api/v1/recordings/{id}/transcript": [{"segments": [{"index": 0, "text": "mine"}]}],
        "PATCH /api/v1/recordings/{id}/speakers": [{"SPEAKER_00": "me"}],
        "POST /api/v1/keys": [{"name": "mine", "tenant": one.tenant}, {"name": "mine"}],
        "POST /api/v1/keys/{id}/rotate": [{}],
        "POST /api/v1/tenants": [{"id": one.tenant}],
        "PUT /api/v1/tenants/{tenant}/retention": [{"retain_days": 1}],
        "PATCH /api/v1/tenants/{tenant}/limits": [{"minutes_a_day": 1}],
    }


SENT_OTHERWISE = {"POST /api/v1/ingest"}
"""By :func:`send`."""


def operations(system: System) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every operation of the interface."""
    document = httpx.get(f"http://127.0.0.1:{system.port}/openapi.json", timeout=60).json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def requests(system: System, other: Party) -> Iterator[tuple[str, str, dict[str, Any], Any]]:
    """(operation, path, query, body): each operation with every name of what another tenant has."""
    known = bodies(other)
    for name, operation in operations(system):
        if name in SENT_OTHERWISE:
            continue
        assert "requestBody" not in operation or name in known, f"say in `bodies` what to send to {name}"
        _, template = name.split()
        places = re.findall(r"{(\w+)}", template)
        for values in product(*(other.names[place] for place in places)):
            path = template.format(**dict(zip(places, values, strict=True)))
            sent = [(query, None) for query in queries(operation, other)]
            for query, body in [({}, body) for body in known[name]] if "requestBody" in operation else sent:
                yield name, path, query, body


def queries(operation: dict[str, Any], other: Party) -> list[dict[str, Any]]:
    """No parameters, each choice of each, and each name of what another has where one fits."""
    found: list[dict[str, Any]] = [{}]
    for parameter in operation.get("parameters", []):
        if parameter["in"] != "query":
            continue
        name, schema = parameter["name"], parameter["schema"]
        found += [{name: choice} for choice in schema.get("enum", [])]
        found += [{name: value} for value in other.names.get("id" if name.endswith("_id") else name, [])]
        found += [{name: True}] if schema.get("type") == "boolean" else []
    return found[:MOST_TRIES]


def asked(one: Party, name: str, path: str, query: dict[str, Any], body: Any) -> httpx.Response:
    url = str(one.http.base_url.copy_with(path=path))
    return one.http.request(name.split(maxsplit=1)[0], url, params=query, json=body)


def neutral(answer: httpx.Response, *names: str) -> str:
    """An answer without what differs from request to request: its trace, and the name that was asked for."""
    text = re.sub(r'"trace_id": ?"[0-9a-f]{32}"', "", answer.text)
    for name in names:
        text = text.replace(name, "NAME")
    return f"{answer.status_code} {text}"


@pytest.fixture(scope="module")
def filled() -> Iterator[dict[int, tuple[Party, Party]]]:
    """The tenants of each system by its port: filling them takes longer than looking at them."""
    known: dict[int, tuple[Party, Party]] = {}
    yield known
    for each in (party for pair in known.values() for party in pair):
        each.http.close()


@pytest.fixture
def parties(system: System, filled: dict[int, tuple[Party, Party]]) -> tuple[Party, Party]:
    """Two tenants that have everything, in collections of the same name."""
    if system.port not in filled:
        one, other = [party(system, f"{name}-{uuid4().hex[:8]}") for name in ("one", "other")]
        for each in (one, other):
            fill(system, each, "the same")
        filled[system.port] = one, other
    return filled[system.port]


def test_a_tenant_sees_nothing_of_another_whose_ids_are_like_none(system: System, parties: tuple[Party, Party]) -> None:
    limited = party(system, parties[0].tenant, scopes=["read", "write"], collections=["another"])
    with limited.http:
        walk(system, *parties, limited)
    unchanged(parties[0])


def walk(system: System, one: Party, other: Party, limited: Party) -> None:
    """Every operation, with the names of what one has, by others."""
    assert not set(one.names["id"]) & set(other.names["id"])
    seen = compared = 0
    for name, path, query, body in requests(system, one):
        for stranger in (other, limited):
            answer = asked(stranger, name, path, query, body)
            where = f"{name} {path} {query} {body}: {answer.status_code}"
            assert answer.status_code < 500 or path == "/health/ready", where
            assert one.canary not in answer.text, where
            assert one.canary not in str(answer.headers), where
            named = next((value for value in one.names["id"] if value in path), None)
            if named is not None and stranger is other:
                assert answer.status_code in (404, 422), where
                unknown = "audio.uploaded:0:987654321" if ":" in named else NOBODY
                nothing = asked(other, name, path.replace(named, unknown), query, body)
                assert neutral(answer, named) == neutral(nothing, unknown), where
                compared += 1
        seen += 1
    assert (seen > 150, compared > 80) == (True, True), (seen, compared)


def unchanged(one: Party) -> None:
    """What others asked has changed nothing."""
    recording = one.names["id"][0]
    assert one.canary in one.http.get(f"/recordings/{recording}/transcript").text
    assert one.get(f"/recordings/{recording}/speakers")["items"][0]["name"] == one.canary
    assert one.get("/collections/the same")["hotwords"] == one.canary
    assert one.get(f"/jobs/{recording}")["revision"] == 2
    assert one.canary in one.get(f"/recordings/{recording}")["title"]
    assert [each["state"] for each in one.get("/dead-letters", state="all")["items"]] == ["open"]
    assert one.get(f"/conversations/{one.names['id'][5]}")["items"]


def test_the_canary_would_have_been_seen(system: System, parties: tuple[Party, Party]) -> None:
    """What the other tests look for is there, for who it belongs to: else they would prove nothing."""
    one, _ = parties
    seen = set()
    for name, path, query, body in requests(system, one):
        if name.startswith("GET") or name.endswith(("/query", "/batch", "/answers", "/completions")):
            answer = asked(one, name, path, query, body)
            if one.canary in answer.text:
                seen.add(name)
    assert seen >= {
        "GET /api/v1/recordings",
        "GET /api/v1/recordings/{id}",
        "GET /api/v1/recordings/{id}/transcript",
        "GET /api/v1/recordings/{id}/speakers",
        "GET /api/v1/collections/{collection}",
        "GET /api/v1/dead-letters/{id}",
        "GET /api/v1/keys",
        "GET /api/v1/conversations/{id}",
        "POST /api/v1/query",
        "POST /api/v1/query/batch",
        "POST /api/v1/answers",
        "POST /v1/chat/completions",
    }


def test_the_same_upload_of_two_tenants_is_two_recordings(parties: tuple[Party, Party]) -> None:
    one, other = parties
    same = replace(one, canary=other.canary)  # the same bytes, fields and Idempotency-Key
    first, second = send(same, "twice"), send(other, "twice")
    assert first["recording_id"] != second["recording_id"]
    for each, mine, theirs in ((same, first, second), (other, second, first)):
        assert send(each, "twice")["recording_id"] == mine["recording_id"]
        assert each.http.get(f"/recordings/{theirs['recording_id']}").status_code == 404


def test_keys_tenants_and_the_audit_log_on_the_command_line(embedded: System) -> None:
    tenant = f"cli-{uuid4().hex[:8]}"
    assert embedded.cli("tenants", "create", tenant).stdout.strip() == tenant
    options = ["--tenant", tenant, "--scope", "read", "--scope", "admin", "--expires", "90d"]
    made = embedded.cli("keys", "create", "my key", *options)
    key = made.stdout.strip()
    assert re.fullmatch(r"earshot_\w{49}", key)
    assert key not in made.stderr
    owner = replace(embedded, environment=embedded.environment | {"EARSHOT_API_KEY": key})
    listed = json.loads(owner.cli("keys", "list", "--json").stdout)["items"]
    assert [(each["name"], each["scopes"]) for each in listed] == [("my key", ["read", "admin"])]
    assert "GET /api/v1/keys" in owner.cli("audit").stdout
    refused = owner.cli("tenants", "list")
    assert (refused.returncode, "default" in refused.stderr) == (1, True)
    rotated = json.loads(owner.cli("keys", "rotate", listed[0]["id"], "--json").stdout)
    assert owner.cli("keys", "list").returncode == 1, "the old key is over"
    owner.environment["EARSHOT_API_KEY"] = rotated["key"]
    assert owner.cli("keys", "revoke", rotated["id"]).returncode == 0
