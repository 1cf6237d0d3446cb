"""How the nearest vectors are found: exactly, or nearly and much faster."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings

from earshot.kernel.settings import config


class NearestSettings(BaseSettings):
    """``EARSHOT_VECTORS__…``: of Weaviate's HNSW graph, and of LanceDB's partitions."""

    model_config = config("VECTORS__")

    hnsw_m: int = Field(16, ge=4, le=256, description="Weaviate: neighbours of a vector in a layer; of new indexes.")
    hnsw_ef_construction: int = Field(
        64, ge=8, le=2048, description="Weaviate: neighbours looked at when a vector is added; of new indexes."
    )
    hnsw_ef: int = Field(40, ge=-1, le=4096, description="Weaviate: neighbours looked at by a query; -1: by its limit.")
    exact_up_to: int = Field(
        20_000, ge=1_000, description="LanceDB: a tenant's passages that are compared one by one; more are partitioned."
    )
    partitions_asked: int = Field(
        20, ge=1, le=4096, description="LanceDB: partitions that a query without filters reads."
    )
