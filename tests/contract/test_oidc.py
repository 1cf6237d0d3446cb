"""Tokens of a provider that answers on a real socket."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator

import pytest
from joserfc.jwk import ECKey, OctKey

from earshot.adapters.oidc import AGAIN_S, OidcSettings, Tokens
from earshot.kernel.access import SCOPES
from earshot.kernel.errors import Misconfigured, Unavailable
from tests.http_app import system
from tests.issuer import Issuer


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    running = Issuer()
    yield running
    running.close()


def tokens(provider: Issuer, clock: list[float] | None = None, **changed) -> Tokens:
    said = {"issuer": provider.url, "audience": "earshot", "timeout_s": 2.0} | changed
    now = clock or [0.0]
    return Tokens(OidcSettings(_env_file=None, **said), lambda: now[0])


async def test_a_token_says_which_tenant_may_do_what(issuer):
    found = await tokens(issuer).principal(issuer.token())
    assert (found.tenant, found.key_id, found.scopes) == ("school", "oidc:ada", {"read"})
    assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]


async def test_rsa_keys_lists_of_scopes_and_other_claims_work_as_well(issuer):
    issuer.rotate("rsa", "RSA")
    checked = tokens(issuer, jwks_url=f"{issuer.url}/keys", tenant_claim="org", scope_claim="roles", scope_prefix="e:")
    token = issuer.token(alg="RS256", org="lab", roles=["e:write", "e:admin", "read", "e:root"])
    found = await checked.principal(token)
    assert (found.tenant, found.scopes) == ("lab", {"write", "admin"})
    assert issuer.asked == ["/keys"]


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": 1},
        {"nbf": int(time.time()) + 3600},
        {"iss": "https://evil.example"},
        {"aud": "another"},
        {"aud": ["another", "third"]},
        {"tenant": "../default"},
        {"tenant": "x\n"},
        {"tenant": ["default"]},
        {"sub": 7},
        {"without": "exp"},
        {"without": "aud"},
        {"without": "iss"},
        {"without": "tenant"},
        {"without": "sub"},
    ],
    ids=str,
)
async def test_a_token_that_is_over_or_meant_for_others_opens_nothing(issuer, claims):
    assert await tokens(issuer).principal(issuer.token(**claims)) is None


async def test_scopes_that_are_none_of_ours_open_nothing(issuer):
    for scope in ("", "openid profile", None, 7, {"read": True}, ["READ"]):
        found = await tokens(issuer).principal(issuer.token(scope=scope))
        assert found.scopes == frozenset()
    assert (await tokens(issuer).principal(issuer.token(scope=" ".join(SCOPES)))).scopes == set(SCOPES)


async def test_a_signature_of_anyone_else_opens_nothing(issuer):
    checked = tokens(issuer)
    stranger = ECKey.generate_key("P-256", {"kid": "first"})
    assert await checked.principal(issuer.token(key=stranger)) is None
    public = json.dumps(issuer.documents()["/keys"]["keys"][0]).encode()
    assert await checked.principal(issuer.token(alg="HS256", key=OctKey.import_key(public))) is None
    header, payload, _ = issuer.token().split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    for token in (f"{none}.{payload}.", f"{header}.{payload}.", f"{none}.{payload}.AAAA"):
        assert await checked.principal(token) is None


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "é.é.é", "x" * 20_000, "e30.e30.e30", "." * 5000])
async def test_what_is_no_token_opens_nothing(issuer, token):
    assert await tokens(issuer).principal(token) is None


async def test_new_keys_are_fetched_when_one_is_unknown_but_not_for_every_forged_token(issuer):
    clock = [0.0]
    checked = tokens(issuer, clock, jwks_url=f"{issuer.url}/keys")
    assert await checked.principal(issuer.token())
    issuer.rotate("second")
    assert await checked.principal(issuer.token()) is None, "the keys are fresh enough"
    clock[0] += AGAIN_S
    assert await checked.principal(issuer.token())
    forged = [issuer.token(key=ECKey.generate_key("P-256")) for _ in range(5)]
    issuer.rotate("third")
    for token in [*forged, *(issuer.token() for _ in range(5))]:
        assert await checked.principal(token) is None
    assert len(issuer.asked) == 2


async def test_keys_that_are_known_are_used_while_the_provider_does_not_answer(issuer):
    clock = [0.0]
    checked = tokens(issuer, clock)
    issuer.broken = True
    with pytest.raises(Unavailable, match="keys"):
        await checked.principal(issuer.token())
    issuer.broken = False
    assert await checked.principal(issuer.token())
    issuer.broken = True
    clock[0] += 1e6
    assert await checked.principal(issuer.token())


async def test_a_provider_that_calls_itself_something_else_is_not_believed(issuer):
    with pytest.raises(Unavailable):
        await tokens(issuer, issuer=f"{issuer.url}/").principal(issuer.token())


@pytest.mark.parametrize(
    "changed",
    [
        {"audience": ""},
        {"algorithms": ("HS256",)},
        {"algorithms": ("none", "RS256")},
        {"issuer": "http://id.example"},
        {"issuer": "http://127.0.0.1.evil.example"},
        {"jwks_url": "http://localhost@evil.example/keys"},
    ],
)
def test_settings_that_would_let_anyone_in_are_refused(issuer, changed):
    with pytest.raises(Misconfigured, match="EARSHOT_OIDC__"):
        tokens(issuer, **changed)


async def test_a_token_opens_the_interface_as_far_as_it_says(issuer, tmp_path, monkeypatch):
    monkeypatch.setenv("EARSHOT_OIDC__ISSUER", issuer.url)
    monkeypatch.setenv("EARSHOT_OIDC__AUDIENCE", "earshot")
    async with system(tmp_path) as web:

        async def get(path: str, token: str = "") -> tuple[int, dict]:
            answer = await web.client.get(path, headers={"Authorization": f"Bearer {token}"} if token else {})
            return answer.status_code, answer.json()

        assert (await get("/api/v1/recordings"))[0] == 401, "with a provider, everyone says who they are"
        assert (await get("/api/v1/recordings", issuer.token(exp=1)))[0] == 401
        status, about = await get("/api/v1/", issuer.token())
        assert (status, about["tenant"], about["scopes"]) == (200, "school", ["read"])
        status, refused = await get("/api/v1/keys", issuer.token())
        assert (status, refused["code"]) == (403, "scope_missing")
        issuer.broken = True
        assert (await get("/api/v1/", issuer.token()))[0] == 200
        await get("/api/v1/recordings", issuer.token())
        await web.app.state.doorkeeper.trail.flush()
        status, log = await get("/api/v1/audit", issuer.token(scope="admin"))
        assert (status, log["items"][-1]["key_id"]) == (200, "oidc:ada")
