"""Keys as text, callers, what is remembered of keys, and what waits to be put on record."""

from __future__ import annotations

import asyncio
import re
import zlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earshot.adapters.access import access as needs
from earshot.adapters.access import rule_of
from earshot.adapters.keyring import MOST, REMEMBERED_S, KeyRing
from earshot.adapters.trail import MOST as MOST_WAITING
from earshot.adapters.trail import SAME_S, Trail, network_of
from earshot.kernel import access
from earshot.kernel.access import Principal
from earshot.kernel.errors import Unavailable
from earshot.kernel.ports.access import ApiKey, AuditEntry
from tests.waiting import eventually

NOW = datetime.now(UTC)


# --- keys as text -----------------------------------------------------------------------------------------------


def test_a_key_is_256_random_bits_and_their_checksum_behind_a_name_that_scanners_find():
    keys = {access.new_key() for _ in range(200)}
    assert len(keys) == 200
    for key in keys:
        assert re.fullmatch(r"earshot_[0-9A-Za-z]{49}", key)
        assert access.is_key(key)
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    checksum = 0
    for character in key[-6:]:
        checksum = checksum * 62 + digits.index(character)
    assert checksum == zlib.crc32(key[8:-6].encode())


@given(st.integers(0, 56), st.characters())
def test_a_mistyped_key_is_none(place, character):
    key = "earshot_" + "0" * 43 + access.new_key()[-6:]
    good = key[:51] + access._checksum(key[8:51])
    assert access.is_key(good)
    changed = good[:place] + character + good[place + 1 :]
    assert access.is_key(changed) == (changed == good)


@given(st.text(max_size=80))
def test_no_text_makes_the_look_at_a_key_fail(text):
    access.is_key(text)
    access.is_key("earshot_" + text)
    assert re.fullmatch("[0-9a-f]{64}", access.hash_of(text))


def test_the_hint_and_the_hash_do_not_tell_the_key():
    key = access.new_key()
    assert key.startswith(access.hint_of(key))
    assert len(access.hint_of(key)) == 12
    assert key[12:] not in access.hash_of(key)


def test_only_an_admin_of_the_default_tenant_runs_the_system():
    assert Principal("default", "k", frozenset({"admin"})).operator
    assert not Principal("default", "k", frozenset({"read", "write", "erase"})).operator
    assert not Principal("school", "k", frozenset({"admin"})).operator


def test_a_route_needs_what_it_says_or_else_what_its_method_says():
    by_method = {method: rule_of(method, None).scope for method in ("get", "HEAD", "POST", "PATCH", "DELETE")}
    assert by_method == {"get": "read", "HEAD": "read", "POST": "write", "PATCH": "write", "DELETE": "erase"}
    rule = rule_of("POST", needs("read", limit="search"))
    assert (rule.scope, rule.limit, rule.audited, rule.ticket) == ("read", "search", True, False)
    assert rule_of("DELETE", needs(audited=False)).scope == "erase"


# --- what is remembered of keys ---------------------------------------------------------------------------------


class Keys:
    """Keys by hash; counts how often it was asked."""

    def __init__(self, **keys: ApiKey) -> None:
        self.keys, self.asked = keys, 0

    async def key_of(self, digest: str) -> ApiKey | None:
        self.asked += 1
        return self.keys.get(digest)


def known(text: str, **changed: object) -> dict[str, ApiKey]:
    key = ApiKey("default", "key_1", "key", "a", "", ("read",), None, NOW, "environment")
    return {access.hash_of(text): replace(key, **changed)}


async def test_a_burst_of_requests_asks_the_catalog_once():
    text, clock = access.new_key(), [0.0]
    keys = Keys(**known(text))
    ring = KeyRing(lambda: keys, lambda: clock[0])
    assert {(await ring.find(text)).id for _ in range(5)} == {"key_1"}
    assert keys.asked == 1
    keys.keys = known(text, revoked_at=NOW)
    clock[0] = REMEMBERED_S
    assert await ring.find(text) is None


async def test_a_key_that_expires_while_it_is_remembered_opens_nothing():
    text = access.new_key()
    ring = KeyRing(lambda: Keys(**known(text, expires_at=datetime.now(UTC) + timedelta(milliseconds=20))))

    async def over() -> bool:
        return await ring.find(text) is None

    assert not await over()
    await eventually(over, within=5)


async def test_what_is_no_key_and_what_is_unknown_is_not_remembered():
    keys = Keys()
    ring = KeyRing(lambda: keys)
    assert await ring.find("earshot_no") is None
    assert keys.asked == 0
    for _ in range(2):
        assert await ring.find(access.new_key()) is None
    assert (keys.asked, len(ring._known)) == (2, 0)


async def test_only_so_many_keys_are_remembered():
    class Every(Keys):
        async def key_of(self, digest: str) -> ApiKey:
            return ApiKey("default", digest, "key", "a", "", (), None, NOW, "environment")

    ring = KeyRing(Every)
    for _ in range(MOST + 10):
        await ring.find(access.new_key())
    assert len(ring._known) == MOST


# --- what waits to be put on record -----------------------------------------------------------------------------


class Books:
    """An audit log and last uses, in memory. ``down``: it does not answer."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []
        self.uses: list[tuple[str, str]] = []
        self.down = False

    async def write_audit(self, entries: list[AuditEntry]) -> None:
        await asyncio.sleep(0)
        if self.down:
            raise Unavailable("catalog", "The catalog does not answer.")
        self.entries += entries

    async def key_used(self, tenant: str, key_id: str, at: datetime) -> None:
        if self.down:
            raise Unavailable("catalog", "The catalog does not answer.")
        self.uses.append((tenant, key_id))


def entry(action: str = "GET /x", recording: str = "r") -> AuditEntry:
    return AuditEntry("default", NOW, "key_1", action, (recording,), "", 200, "")


async def test_the_same_read_is_on_record_once_a_minute_and_every_change_each_time():
    books, clock = Books(), [0.0]
    trail = Trail(lambda: books, lambda: clock[0])
    for action in ("GET /x", "GET /x", "DELETE /x", "DELETE /x"):
        trail.note(entry(action))
    trail.note(entry(recording="other"))
    clock[0] = SAME_S
    trail.note(entry())
    await trail.close()
    counts = {action: sum(one.action == action for one in books.entries) for action in ("GET /x", "DELETE /x")}
    assert counts == {"GET /x": 3, "DELETE /x": 2}


async def test_what_is_noted_is_written_by_itself():
    books = Books()
    trail = Trail(lambda: books)
    trail.note(entry())
    trail.used(ApiKey("default", "key_1", "key", "a", "", (), None, NOW, "environment"))
    await eventually(lambda: bool(books.entries and books.uses), within=10)


async def test_entries_wait_while_the_catalog_does_not_answer_and_keep_their_order():
    books = Books()
    trail = Trail(lambda: books)
    books.down = True
    for number in range(3):
        trail.note(entry(recording=str(number)))
    with pytest.raises(Unavailable):
        await trail.record(entry("DELETE /x"))
    assert books.entries == []
    books.down = False
    await trail.record(entry("DELETE /y"))
    assert [one.recordings[0] for one in books.entries] == ["0", "1", "2", "r"]
    assert [one.action for one in books.entries][-1] == "DELETE /y"


async def test_only_so_many_entries_wait():
    books = Books()
    books.down = True
    trail = Trail(lambda: books)
    for number in range(MOST_WAITING + 5):
        trail.note(entry(recording=str(number)))
    books.down = False
    await trail.close()
    assert (len(books.entries), books.entries[0].recordings) == (MOST_WAITING, ("5",))


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.77", "203.0.113.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
        ("::ffff:203.0.113.77", "203.0.113.0/24"),
        ("fe80::1%eth0", "fe80::/48"),
        ("testclient", ""),
        ("", ""),
    ],
)
def test_an_address_is_kept_as_its_network(address, network):
    assert network_of(address) == network
