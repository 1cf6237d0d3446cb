"""A question finds the index, its model and its encoder once; nobody waits for a model when the alias moves."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from earshot.adapters.catalog import Catalog
from earshot.kernel import ids
from earshot.kernel.errors import Misconfigured
from earshot.kernel.ports.indexes import Index, NewIndex
from earshot.query.alias import Alias
from tests.fakes_catalog import new_catalog
from tests.fakes_vectors import FakeEncoder
from tests.waiting import eventually

OLD, NEW = (NewIndex(ids.index_name("fake", size), f"fake:{size}", "fake", size) for size in (8, 16))


class Shelf:
    """Encoders as they are asked for; the new one can be held back, or be broken."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []
        self.there = threading.Event()
        self.there.set()
        self.broken = False

    def find(self, index: Index | None) -> FakeEncoder:
        self.asked.append(None if index is None else index.encoder)
        if index is None:
            return FakeEncoder(4)
        if index.name == NEW.name:
            assert self.there.wait(30)
            if self.broken:
                raise Misconfigured("The folder is gone.")
        return FakeEncoder(index.dimensions)


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[Catalog]:
    catalog = await new_catalog(tmp_path)
    yield catalog
    await catalog.close()


async def size(alias: Alias) -> int:
    return (await alias.encoder()).dimensions


async def test_before_any_index_serves_the_settings_say_which_model(catalog: Catalog) -> None:
    shelf = Shelf()
    alias = Alias(catalog, shelf.find)
    assert [await size(alias), await size(alias)] == [4, 4]
    await catalog.first_index(OLD)
    assert [await size(alias), await size(alias)] == [8, 8]
    assert shelf.asked == [None, "fake:8"]


async def test_a_moved_alias_is_followed_at_once_when_the_model_is_there(catalog: Catalog) -> None:
    """It was loaded ahead, when questions met an index being built."""
    await catalog.first_index(OLD)
    shelf = Shelf()
    alias = Alias(catalog, shelf.find)
    assert await size(alias) == 8
    await catalog.build_index(NEW, {})
    assert await size(alias) == 8
    await eventually(lambda: "fake:16" in shelf.asked)
    await catalog.move_alias(NEW.name)
    await eventually(lambda: _is(alias, 16))
    assert await size(alias) == 16
    assert shelf.asked == ["fake:8", "fake:16"]


async def _is(alias: Alias, expected: int) -> bool:
    return await size(alias) == expected


async def test_until_the_model_is_loaded_the_old_index_answers_for_as_long_as_it_is_kept(catalog: Catalog) -> None:
    await catalog.first_index(OLD)
    shelf = Shelf()
    shelf.there.clear()
    alias = Alias(catalog, shelf.find)
    assert await size(alias) == 8
    await catalog.build_index(NEW, {})
    await catalog.move_alias(NEW.name)
    assert [await size(alias), await size(alias)] == [8, 8]
    await catalog.change_index(OLD.name, ["leaving"], "dropped")
    shelf.there.set()
    assert await size(alias) == 16


async def test_a_model_that_does_not_load_leaves_the_old_index_answering(catalog: Catalog) -> None:
    await catalog.first_index(OLD)
    shelf = Shelf()
    shelf.broken = True
    alias = Alias(catalog, shelf.find)
    assert await size(alias) == 8
    await catalog.build_index(NEW, {})
    await catalog.move_alias(NEW.name)
    for _ in range(3):
        assert await size(alias) == 8
    shelf.broken = False
    await eventually(lambda: _is(alias, 16))
    fresh = Alias(catalog, Shelf().find)
    assert await size(fresh) == 16


async def test_without_an_old_index_the_question_says_what_is_wrong_with_the_model(catalog: Catalog) -> None:
    await catalog.first_index(NEW)
    shelf = Shelf()
    shelf.broken = True
    alias = Alias(catalog, shelf.find)
    for _ in range(2):
        with pytest.raises(Misconfigured, match="folder is gone"):
            await alias.encoder()
    shelf.broken = False
    assert await size(alias) == 16
