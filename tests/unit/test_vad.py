"""The streaming VAD gives what faster-whisper's own, over the whole recording at once, gives."""

import numpy as np
import pytest

from earshot.adapters.vad import SileroVad
from tests.audio import speech


def probabilities(samples, sizes):
    vad, found, start = SileroVad(), [], 0
    while start < len(samples):
        size = next(sizes)
        for block, values in vad.push(samples[start : start + size]):
            assert len(values) * 512 == len(block)
            found += values
        start += size
    for _, values in vad.end():
        found += values
    return found


def test_streaming_equals_the_whole_at_once():
    from faster_whisper.vad import get_vad_model

    samples = speech()[: 512 * 300]
    whole = get_vad_model()(samples.astype(np.float32) / 32768).reshape(-1)
    streamed = probabilities(samples, iter(lambda: 1234, None))
    # the reference wraps its last frame's context around to the first; everything else is the same
    assert streamed[1:] == pytest.approx(whole[1:].tolist(), abs=1e-3)


def test_the_sizes_of_pieces_change_nothing():
    samples = speech()[:100_000]
    assert probabilities(samples, iter(lambda: 100_000, None)) == probabilities(samples, iter(lambda: 777, None))


def test_speech_is_told_from_noise_and_silence():
    noise = (np.random.default_rng(1).normal(size=48_000) * 300).astype(np.int16)
    for quiet in (noise, np.zeros(48_000, np.int16)):
        assert max(probabilities(quiet, iter(lambda: 5000, None))) < 0.5
    assert np.mean(np.array(probabilities(speech()[:48_000], iter(lambda: 5000, None))) > 0.5) > 0.4
