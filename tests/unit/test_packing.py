"""Batches within a budget of tokens."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from earshot.adapters.packing import pack

SIZES = st.lists(st.integers(0, 600), max_size=200)


@given(SIZES, st.integers(1, 20_000))
def test_every_text_is_in_one_batch_and_no_batch_costs_more_than_the_budget(sizes, budget):
    """Padding counts: a batch costs its longest text as often as it has texts."""
    batches = pack(sizes, budget)
    assert sorted(place for batch in batches for place in batch) == list(range(len(sizes)))
    for batch in batches:
        assert batch
        assert len(batch) == 1 or max(sizes[place] for place in batch) * len(batch) <= budget


@given(SIZES, st.integers(1, 20_000))
def test_texts_of_like_length_go_together(sizes, budget):
    """Batches in a row never overlap in length, and none could have taken the next one's first text too."""
    batches = pack(sizes, budget)
    in_order = [sizes[place] for batch in batches for place in batch]
    assert in_order == sorted(in_order)
    for batch, following in pairwise(batches):
        assert sizes[following[0]] * (len(batch) + 1) > budget
