"""Tenants, API keys and the audit log in the catalog, on every database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from earshot.kernel import access
from earshot.kernel.errors import Permanent
from earshot.kernel.ports.access import ApiKey, AuditEntry, AuditQuery
from tests.fakes_catalog import accepted

NOW = datetime.now(UTC).replace(microsecond=0)


def made(tenant: str, **changed) -> tuple[ApiKey, str]:
    """What is known of a new key, and its hash."""
    text = access.new_key()
    hint = access.hint_of(text)
    key = ApiKey(tenant, access.new_key_id(), "key", "reader", hint, ("read",), None, NOW, "environment")
    return replace(key, **changed), access.hash_of(text)


async def kept(catalog, tenant: str, **changed) -> tuple[ApiKey, str]:
    await catalog.create_tenant(tenant)
    key, digest = made(tenant, **changed)
    await catalog.add_key(key, digest)
    return key, digest


async def test_a_key_is_found_by_its_hash_as_it_was_made(catalog, tenant):
    limited = {"collections": ("bio 101", "größe"), "scopes": ("read", "write"), "expires_at": NOW + timedelta(days=1)}
    key, digest = await kept(catalog, tenant, **limited)
    assert await catalog.key_of(digest) == key
    assert await catalog.key_of(access.hash_of(access.new_key())) is None
    assert await catalog.keys(tenant) == [key]


async def test_a_key_needs_a_tenant_that_exists(catalog, tenant):
    key, digest = made(tenant)
    with pytest.raises(Permanent) as refused:
        await catalog.add_key(key, digest)
    assert (refused.value.code, refused.value.status) == ("unknown_tenant", 404)
    assert await catalog.key_of(digest) is None


async def test_a_revoked_key_stays_revoked_and_takes_its_tickets_along(catalog, tenant):
    key, digest = await kept(catalog, tenant)
    _, of_ticket = await kept(catalog, tenant, kind="ticket", created_by=key.id)
    _, of_other = await kept(catalog, tenant, kind="ticket", created_by="another")
    revoked = await catalog.revoke_key(tenant, key.id)
    assert not revoked.valid(datetime.now(UTC))
    assert await catalog.revoke_key(tenant, key.id) == revoked
    assert [(await catalog.key_of(one)).revoked_at is None for one in (digest, of_ticket, of_other)] == [
        False,
        False,
        True,
    ]


async def test_another_tenant_s_key_is_as_unknown_as_one_that_never_was(catalog, tenant):
    key, digest = await kept(catalog, tenant)
    other = tenant + "x"
    new, of_new = made(other)
    await catalog.create_tenant(other)
    for key_id in (key.id, access.new_key_id()):
        with pytest.raises(Permanent) as revoking:
            await catalog.revoke_key(other, key_id)
        with pytest.raises(Permanent) as replacing:
            await catalog.replace_key(other, key_id, new, of_new, NOW)
        assert revoking.value.code == replacing.value.code == "unknown_key"
    assert await catalog.keys(other) == []
    assert (await catalog.key_of(digest)).revoked_at is None


async def test_a_replaced_key_goes_on_until_the_moment_named_and_never_longer_than_before(catalog, tenant):
    now = datetime.now(UTC)
    old, digest = await kept(catalog, tenant)
    first, of_first = made(tenant)
    await catalog.replace_key(tenant, old.id, first, of_first, now + timedelta(hours=1))
    assert (await catalog.key_of(digest)).expires_at == now + timedelta(hours=1)
    assert (await catalog.key_of(of_first)).id == first.id
    second, of_second = made(tenant)
    await catalog.replace_key(tenant, old.id, second, of_second, now + timedelta(days=9))
    assert (await catalog.key_of(digest)).expires_at == now + timedelta(hours=1)
    await catalog.revoke_key(tenant, old.id)
    third, of_third = made(tenant)
    with pytest.raises(Permanent):
        await catalog.replace_key(tenant, old.id, third, of_third, now)
    assert await catalog.key_of(of_third) is None


async def test_the_last_use_is_written_at_most_once_a_minute(catalog, tenant):
    key, digest = await kept(catalog, tenant)
    seen = []
    for seconds in (0, 59, 60, 90):
        await catalog.key_used(tenant, key.id, NOW + timedelta(seconds=seconds))
        seen.append((await catalog.key_of(digest)).last_used_at - NOW)
    assert [use.seconds for use in seen] == [0, 0, 60, 60]


async def test_a_tenant_is_made_once_and_listed(catalog, tenant):
    first = await catalog.create_tenant(tenant)
    assert await catalog.create_tenant(tenant) == first
    assert first in await catalog.list_tenants()


def entry(tenant: str, second: int, **changed) -> AuditEntry:
    at = NOW + timedelta(seconds=second)
    return replace(AuditEntry(tenant, at, "key_1", "GET /x", ("r-1", "r-2"), "192.0.2.0/24", 200, "ab" * 16), **changed)


async def test_the_log_of_a_tenant_is_read_newest_first_and_narrowed(catalog, tenant):
    written = [entry(tenant, 0), entry(tenant, 1, key_id="key_2", recordings=()), entry(tenant, 2, action="POST /y")]
    await catalog.write_audit([*written, entry(tenant + "x", 3)])
    await catalog.write_audit([])
    found = await catalog.audit(tenant, AuditQuery(), 10)
    assert [replace(one, id=0) for one in found] == written[::-1]
    narrowed = {
        "key": AuditQuery(key_id="key_2"),
        "recording": AuditQuery(recording_id="r-2"),
        "wildcard": AuditQuery(recording_id="r_2"),
        "action": AuditQuery(action="POST /y"),
        "since": AuditQuery(since=NOW + timedelta(seconds=1)),
        "to": AuditQuery(to=NOW + timedelta(seconds=1)),
        "page": AuditQuery(before_id=found[0].id),
    }
    counts = {name: len(await catalog.audit(tenant, query, 10)) for name, query in narrowed.items()}
    assert counts == {"key": 1, "recording": 2, "wildcard": 0, "action": 1, "since": 2, "to": 1, "page": 2}
    assert len(await catalog.audit(tenant, AuditQuery(), 2)) == 2


async def test_old_entries_and_tickets_that_are_over_are_forgotten(catalog, tenant):
    past = NOW - timedelta(days=100)
    await catalog.write_audit([entry(tenant, 0, at=past - timedelta(seconds=1)), entry(tenant, 0)])
    _, of_ticket = await kept(catalog, tenant, kind="ticket", expires_at=NOW - timedelta(hours=25))
    _, of_fresh = await kept(catalog, tenant, kind="ticket", expires_at=NOW)
    _, of_key = await kept(catalog, tenant, expires_at=past - timedelta(days=1))
    assert await catalog.prune_audit(past) >= 2
    assert len(await catalog.audit(tenant, AuditQuery(), 10)) == 1
    assert await catalog.key_of(of_ticket) is None
    assert None not in [await catalog.key_of(one) for one in (of_fresh, of_key)]


async def test_recordings_are_listed_among_some_collections(catalog, tenant):
    for collection in ("bio", "chemistry", "art"):
        await accepted(catalog, tenant, collection=collection)

    async def listed(**wanted) -> list[str]:
        return sorted(each.collection for each in await catalog.recordings(tenant, **wanted))

    assert await listed(among={"bio", "art", "none"}) == ["art", "bio"]
    assert await listed(among={"bio"}, collection="art") == []
    assert await listed(among=set()) == []
    assert await listed(among=None) == ["art", "bio", "chemistry"]
