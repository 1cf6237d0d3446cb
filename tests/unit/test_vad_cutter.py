"""Where recordings are cut, whatever is said in them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earshot.adapters.cutter import FRAME, MAX_SAMPLES, RATE, Cutter

SECOND = RATE / FRAME
# stretches of (seconds, speech probability): speech, murmur at the edge of it, and silence
STRETCH = st.tuples(st.floats(0.03, 40), st.sampled_from([0.0, 0.1, 0.4, 0.6, 0.95, 1.0]))
RECORDING = st.tuples(st.lists(STRETCH, max_size=12), st.integers(0, FRAME - 1))


def recording(stretches, tail=0):
    """Samples that all differ from their neighbours, and a probability for each frame."""
    probabilities = [p for seconds, p in stretches for _ in range(max(1, round(seconds * SECOND)))]
    if tail:
        probabilities.append(0.9)
    count = len(probabilities) * FRAME - (FRAME - tail if tail else 0)
    return (np.arange(count) % 32_749).astype(np.int16), probabilities


def cut(samples, probabilities, sizes=None):
    cutter, cuts, start = Cutter(), [], 0
    sizes = iter(sizes or [])
    while start < len(probabilities):
        size = next(sizes, 1000)
        block = samples[start * FRAME : (start + size) * FRAME]
        cuts += cutter.push(block, probabilities[start : start + size])
        start += size
    return cuts + list(cutter.end())


def spoken(probabilities):
    """Frames that count as speech: from 0.5 on, and on down to 0.35."""
    flags, speaking = [], False
    for probability in probabilities:
        speaking = probability >= (0.35 if speaking else 0.5)
        flags.append(speaking)
    return flags


@settings(max_examples=150, deadline=None)
@given(RECORDING)
def test_speech_is_neither_lost_nor_doubled_nor_longer_than_30_s(made):
    samples, probabilities = recording(*made)
    cuts = cut(samples, probabilities)
    covered = np.zeros(len(samples), dtype=int)
    for piece in cuts:
        assert 0 < len(piece.samples) <= MAX_SAMPLES
        assert np.array_equal(piece.samples, samples[piece.start : piece.start + len(piece.samples)])
        covered[piece.start : piece.start + len(piece.samples)] += 1
    flags = spoken(probabilities)
    assert covered.max(initial=0) <= 1
    assert all(covered[n * FRAME : (n + 1) * FRAME].all() for n, flag in enumerate(flags) if flag)
    assert [piece.start for piece in cuts] == sorted(piece.start for piece in cuts)
    for piece in cuts:  # nor is there a segment without speech
        first = piece.start // FRAME
        assert any(flags[first : first + -(-len(piece.samples) // FRAME)])


@settings(max_examples=60, deadline=None)
@given(RECORDING, st.lists(st.integers(1, 400), max_size=40))
def test_cuts_do_not_depend_on_how_the_samples_come_in(made, sizes):
    samples, probabilities = recording(*made)
    whole, pieces = cut(samples, probabilities), cut(samples, probabilities, sizes)
    assert [(p.start, p.samples.tobytes()) for p in whole] == [(p.start, p.samples.tobytes()) for p in pieces]


@settings(max_examples=60, deadline=None)
@given(RECORDING)
def test_what_is_held_is_bounded(made):
    samples, probabilities = recording(*made)
    cutter = Cutter()
    for number, probability in enumerate(probabilities):
        list(cutter.push(samples[number * FRAME : (number + 1) * FRAME], [probability]))
        assert sum(len(frame.samples) for frame in cutter._held) <= MAX_SAMPLES


def seconds(cuts):
    return [(round(c.start / RATE, 1), round((c.start + len(c.samples)) / RATE, 1)) for c in cuts]


@pytest.mark.parametrize(
    ("stretches", "expected"),
    [
        ([(1.5, 0), (20, 1), (1.9, 0), (5, 1), (1, 0)], [(0.0, 29.4)]),  # under 30 s: whole, as it is
        ([(29.9, 1)], [(0.0, 29.9)]),
        ([(60, 0)], []),
        ([(10, 0), (4, 1), (10, 0)], [(9.5, 14.5)]),  # long silence at either end is trimmed
        ([(6, 1), (2.3, 0), (6, 1)], [(0.0, 6.5), (6.5, 14.3)]),  # a long pause ends, and what is short of it is kept
        ([(6, 1), (60, 0), (6, 1)], [(0.0, 6.5), (65.5, 72.0)]),
        ([(3, 1), (4, 0), (3, 1)], [(0.0, 10.0)]),  # too short to be ended by this pause
        ([(3, 1), (8, 0), (3, 1)], [(0.0, 3.5), (10.5, 14.0)]),
        ([(22, 1), (0.5, 0), (4, 1), (1, 0), (20, 1)], [(0.0, 27.0), (27.0, 47.5)]),  # the longest pause in reach
        ([(25, 1), (0.1, 0.6), (20, 1)], [(0.0, 25.0), (25.0, 45.1)]),  # no pause: the least likely speech
        ([(12, 1), (1.5, 0), (30, 1)], [(0.0, 30.0), (30.0, 43.5)]),  # a pause out of reach does not count
    ],
)
def test_the_policy(stretches, expected):
    found = seconds(cut(*recording(stretches)))
    assert len(found) == len(expected)
    for got, wanted in zip(found, expected, strict=True):
        assert got == pytest.approx(wanted, abs=0.11)


def test_exactly_30_s_is_one_segment_and_one_sample_more_is_two():
    probabilities = [1.0] * 938
    for samples, segments in ((MAX_SAMPLES, 1), (MAX_SAMPLES + 1, 2)):
        cuts = cut(np.zeros(samples, dtype=np.int16), probabilities)
        assert len(cuts) == segments
        assert sum(len(c.samples) for c in cuts) == samples
