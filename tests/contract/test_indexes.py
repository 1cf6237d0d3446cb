"""Which indexes there are and where the alias points, on every database."""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command

from earshot.adapters.catalog import Catalog
from earshot.adapters.catalog.engine import _alembic
from earshot.kernel import ids
from earshot.kernel.codec import Codec
from earshot.kernel.errors import Permanent
from earshot.kernel.gate import Standing, Verdict, judge, judge_shown, visible
from earshot.kernel.ports.indexes import NewIndex, serving
from tests.fakes_catalog import TRACE, accepted, transcribed


def new(encoder: str = "one") -> NewIndex:
    return NewIndex(ids.index_name(encoder, 8), encoder, f"model-{encoder}", 8)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def own_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of the test's own: the alias is one for all tenants."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/catalog.sqlite"
    url = sa.make_url(request.getfixturevalue("postgres_url"))
    name = f"indexes_{uuid.uuid4().hex}"
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return url.set(database=name).render_as_string(hide_password=False)


@pytest.fixture
async def catalog(own_url: str) -> AsyncIterator[Catalog]:
    catalog = Catalog(own_url, Codec())
    await catalog.migrate()
    yield catalog
    await catalog.close()


async def states(catalog: Catalog) -> dict[str, str]:
    return {index.encoder: index.state for index in await catalog.indexes()}


async def test_the_first_that_asks_says_which_index_serves(catalog):
    both = await asyncio.gather(*(catalog.first_index(new(name)) for name in ("one", "two", "one")))
    assert len({index.name for index in both}) == 1
    assert list((await states(catalog)).values()) == ["serving"]
    assert both[0].group == "embedder"


async def test_an_index_is_built_takes_over_and_the_old_one_leaves(catalog):
    await catalog.first_index(new("one"))
    built = await catalog.build_index(new("two"), {0: 7, 1: 0})
    assert (built.state, built.barrier, built.group) == ("building", {0: 7, 1: 0}, "embedder-2")
    assert serving(await catalog.indexes()).encoder == "one"
    await catalog.move_alias(built.name)
    assert await states(catalog) == {"one": "leaving", "two": "serving"}
    await catalog.move_alias(built.name)
    await catalog.set_until(new("one").name, {0: 9})
    await catalog.set_until(new("one").name, {0: 99})
    [old, now] = await catalog.indexes()
    assert (old.state, old.until, now.until) == ("leaving", {0: 9}, None)
    assert now.served_at is not None
    assert await catalog.change_index(old.name, ("leaving",), "kept")
    assert not await catalog.change_index(old.name, ("leaving",), "kept")


async def test_asking_again_finds_what_was_begun_and_one_is_built_at_a_time(catalog):
    await catalog.first_index(new("one"))
    begun = await catalog.build_index(new("two"), {0: 7})
    assert await catalog.build_index(new("two"), {0: 8}) == begun
    with pytest.raises(Permanent) as refused:
        await catalog.build_index(new("three"), {})
    assert refused.value.code == "reindexing"
    await catalog.move_alias(begun.name)
    with pytest.raises(Permanent):
        await catalog.build_index(new("three"), {})
    await catalog.change_index(new("one").name, ("leaving",), "kept")
    assert (await catalog.build_index(new("two"), {})).state == "serving"
    again = await catalog.build_index(new("one"), {0: 3})
    assert (again.state, again.group) == ("building", "embedder-3")


async def test_two_aliases_are_refused_by_the_database_itself(catalog):
    await catalog.first_index(new("one"))
    await catalog.build_index(new("two"), {})
    with pytest.raises((sa.exc.IntegrityError, sqlite3.IntegrityError)):
        await catalog.change_index(new("two").name, ("building",), "serving")


async def test_a_cancelled_attempt_stays_hidden_while_another_is_made(catalog):
    """A lower revision is worked on for as long as it may be shown; a cancelled one never again."""
    tenant = "default"
    first = await accepted(catalog, tenant)
    recording = first.job.recording_id
    await catalog.cancel(tenant, first.job.id, TRACE)
    await catalog.retry(tenant, first.job.id, TRACE)
    [standing] = (await catalog.standings({(tenant, recording)})).values()
    assert standing == Standing("live", 2, 1, frozenset({1}))
    assert (visible(standing, 1), judge_shown(standing, 1)) == (False, Verdict.OVERTAKEN)
    plain = Standing("live", 2, 1)
    assert (judge(plain, 1), judge_shown(plain, 1)) == (Verdict.OVERTAKEN, Verdict.GO)
    assert judge_shown(Standing("live", 2, 2), 1) is Verdict.OVERTAKEN
    assert judge_shown(Standing("erased", 2, 1), 1) is Verdict.ERASED
    assert judge_shown(Standing("cancelled", 2, 1), 2) is Verdict.CANCELLED


async def test_an_older_catalog_learns_which_engine_wrote_what(own_url: str):
    catalog = Catalog(own_url, Codec())
    database = catalog._db

    def first_version(connection: sa.Connection) -> None:
        config = _alembic()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        body = transcribed("t", "r", 0).model_dump_json()
        body = body.replace('"name":"test"', '"name":"old"').replace('"degraded":false', '"degraded":true')
        insert = "INSERT INTO transcript_segments VALUES ('t', 'r', :n, 1, :body, NULL)"
        connection.execute(sa.text(insert), [{"n": 0, "body": body}, {"n": 1, "body": ""}])

    try:
        database.write_now(first_version)
        await catalog.migrate()
        rows = database.read_now(
            lambda c: c.execute(sa.text("SELECT engine, degraded FROM transcript_segments ORDER BY segment")).all()
        )
        assert [(engine, bool(degraded)) for engine, degraded in rows] == [("old", True), ("", False)]
    finally:
        await catalog.close()
