"""Ids are a public contract: the same input gives the same id in every version, and different inputs never meet."""

from __future__ import annotations

import uuid
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earshot.kernel import ids
from earshot.kernel.topics import AUDIO_SEGMENTS, TOPICS, all_topics, segment_key, slot_of_key

PARTS = st.lists(st.text(st.characters(exclude_characters="\x1f", codec="utf-8"), max_size=8), min_size=1, max_size=5)


@given(PARTS, PARTS)
def test_two_lists_of_parts_share_an_id_only_when_they_are_equal(one, other):
    assert (ids.derive(*one) == ids.derive(*other)) == (one == other)


def test_a_part_with_the_separator_is_refused():
    with pytest.raises(ValueError, match=r"U\+001F"):
        ids.derive("a\x1fb")


def test_ids_are_what_they_were_in_the_first_version():
    """Written down once. Who changes them orphans everything that is stored."""
    assert ids.derive("recording", "default", "/dictaphone/7", "42") == "6a8a25ff-a1f2-51cc-938b-f2aeb07cc163"


def test_each_kind_of_id_has_a_space_of_its_own():
    made = [
        ids.foreign_recording_id("t", "1", "2"),
        ids.bare_recording_id("t", "1", 2, 0),
        ids.job_id("t", 1),
        ids.segment_id("t", 1, 2),
        ids.passage_id("t", "1", 2),
        ids.event_id("t", "1", b"2"),
    ]
    assert len(set(made)) == len(made)
    assert {uuid.UUID(item).version for item in made} == {5}


def test_minted_recording_ids_do_not_repeat():
    assert len({ids.new_recording_id() for _ in range(1000)}) == 1000


@given(st.uuids().map(str), st.integers(1, 64))
def test_the_segments_of_one_recording_go_round_robin(recording, partitions):
    spread = Counter(ids.slot(recording, index) % partitions for index in range(partitions * 3))
    assert set(spread.values()) == {3}


@given(st.uuids().map(str), st.integers(0, 10_000))
def test_a_key_leads_to_the_slot_of_its_segment(recording, index):
    assert slot_of_key(segment_key(recording, index)) == ids.slot(recording, index)
    assert slot_of_key(recording) == ids.slot(recording)


@given(st.text(max_size=50))
def test_any_foreign_key_has_a_slot(key):
    assert slot_of_key(key) == slot_of_key(key)


@given(st.text(max_size=64), st.text(max_size=64), st.integers(1, 4096))
def test_index_names_are_plain_and_models_do_not_share_one(one, other, dimensions):
    name = ids.index_name(one, dimensions)
    assert name.isascii()
    assert name.replace("_", "").isalnum()
    assert (name == ids.index_name(other, dimensions)) == (one == other)


def test_every_topic_has_its_own_name_and_its_dead_letters():
    names = [topic.name for topic in all_topics()]
    assert len(set(names)) == len(names) == 2 * len(TOPICS)
    assert AUDIO_SEGMENTS.dead_letters.name == "audio.segments.dlq"
