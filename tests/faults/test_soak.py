"""A short cut of ``make soak``, on both transports with either store; and that its faults follow from the seed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.guarantees import Outcome
from tests.faults.soak import faults_of, soaking

SECONDS = 30.0
SYSTEMS = [
    pytest.param("embedded", "lancedb"),
    pytest.param("embedded", "weaviate", marks=pytest.mark.weaviate),
    pytest.param("kafka", "lancedb", marks=pytest.mark.kafka),
    pytest.param("kafka", "weaviate", marks=[pytest.mark.kafka, pytest.mark.weaviate]),
]


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("transport", "vectors"), SYSTEMS)
@pytest.mark.row(
    27, "deaths, freezes, ends, outages, erasures, cancellations, duplicates and replays, at random from a seed"
)
async def test_random_faults_for_half_a_minute_lose_nothing(
    transport: str, vectors: str, outcome: Outcome, tmp_path: Path
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # shown when the test fails: make soak ARGS="--seed …"
    async with soaking(transport, vectors, tmp_path, seed) as soak:
        await soak.run(SECONDS)
        outcome.hit(soak.in_flight, faults=len(soak.done))
        outcome.recovery_s += soak.settled_s
        await soak.rounds.account(outcome)


def test_the_faults_of_an_epoch_follow_from_its_seed() -> None:
    assert faults_of(7, 3) == faults_of(7, 3)
    assert faults_of(7, 3) != faults_of(7, 4)
    assert faults_of(7, 3) != faults_of(8, 3)
