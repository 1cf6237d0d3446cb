"""The catalog on every database it promises to run on."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator

import pytest
import sqlalchemy as sa

from earshot.adapters.catalog import Catalog
from earshot.kernel.codec import Codec


@pytest.fixture(scope="session")
def sqlite_catalog_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('catalog')}/catalog.sqlite"


@pytest.fixture(scope="session")
def postgres_catalog_url(postgres_url: str) -> Iterator[str]:
    """A database of the session's own."""
    name = f"catalog_{uuid.uuid4().hex}"
    engine = sa.create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield sa.make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    engine.dispose()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def catalog_url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_catalog_url"))


@pytest.fixture
async def catalog(catalog_url: str) -> AsyncIterator[Catalog]:
    """Migrated; tests keep apart by tenant."""
    catalog = Catalog(catalog_url, Codec())
    await catalog.migrate()
    yield catalog
    await catalog.close()


@pytest.fixture
def tenant() -> str:
    return f"t{uuid.uuid4().hex}"
