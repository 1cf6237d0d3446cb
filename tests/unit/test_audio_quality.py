"""How a recording sounds: every measure against sound of which the truth is known."""

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile

from earshot.adapters.audio_quality import AudioMeter, SpeechMeter
from earshot.adapters.decode_child import DecodeChild
from earshot.adapters.decoder import IsolatedDecoder
from earshot.adapters.loudness import Histogram, LoudnessMeter, k_weighting
from earshot.kernel.events import Quality
from tests.audio import EXAMPLES, JFK, RATE, encode, silence, speech, wav

CHILD = DecodeChild(2**30, 3600, "")
REFERENCE = json.loads((Path(__file__).parents[1] / "fixtures" / "loudness.json").read_text())["lufs"]


def measured(data: bytes, tmp_path: Path) -> Quality:
    """What decoding a file in this process finds."""
    path = tmp_path / "sound"
    path.write_bytes(data)
    return Quality(**list(CHILD.cut(str(path)))[-1]["quality"])


def loudness(channels, rate=48_000, weights=None, at_once=None):
    """Of an array of shape ``(channels, n)``."""
    histogram = Histogram()
    meter = LoudnessMeter(rate, weights or [1.0] * len(channels), histogram)
    for start in range(0, channels.shape[1], meter.block):
        meter.push(channels[:, start : start + meter.block].astype(np.float32))
    return histogram.integrated()


def sine(*parts, rate=48_000, hz=1000):
    """Stereo, each part as (dBFS, seconds)."""
    level = np.concatenate([np.full(int(s * rate), 10 ** (db / 20)) for db, s in parts])
    wave = level * np.sin(2 * np.pi * hz * np.arange(len(level)) / rate)
    return np.stack([wave, wave])


def test_the_k_weighting_at_48_khz_is_the_table_of_bs_1770():
    shelf, high_pass = k_weighting(48_000)
    assert shelf[0] == pytest.approx((1.53512485958697, -2.69169618940638, 1.19839281085285), abs=1e-9)
    assert shelf[1] == pytest.approx((1.0, -1.69065929318241, 0.73248077421585), abs=1e-9)
    assert high_pass[0] == (1.0, -2.0, 1.0)
    assert high_pass[1] == pytest.approx((1.0, -1.99004745483398, 0.99007225036621), abs=1e-9)


@pytest.mark.parametrize(
    ("parts", "lufs"),
    [
        ([(-23, 20)], -23.0),
        ([(-33, 20)], -33.0),
        ([(-36, 10), (-23, 60), (-36, 10)], -23.0),  # the relative gate
        ([(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)], -23.0),  # and the absolute one
        ([(-26, 20), (-20, 20.1), (-26, 20)], -23.0),
    ],
)
def test_the_sines_of_ebu_tech_3341_are_as_loud_as_it_says(parts, lufs):
    """Its tests 1 to 5, which allow 0.1 LU."""
    assert loudness(sine(*parts)) == pytest.approx(lufs, abs=0.1)


def test_surround_channels_count_more_and_low_frequency_effects_do_not():
    tone = sine((-20, 5))[:1]
    assert loudness(tone, weights=[1.41]) - loudness(tone) == pytest.approx(10 * math.log10(1.41), abs=0.01)
    assert loudness(tone, weights=[0.0]) is None


@pytest.mark.parametrize("name", REFERENCE)
def test_speech_is_as_loud_as_pyloudnorm_says(name, tmp_path):
    """The values were made by pyloudnorm with the same filters; how, stands beside them."""
    found = measured((EXAMPLES / name).read_bytes(), tmp_path)
    assert found.loudness_lufs == pytest.approx(REFERENCE[name], abs=0.02)


def test_silence_and_what_is_shorter_than_a_block_have_no_loudness(tmp_path):
    assert measured(wav(silence(5)), tmp_path) == Quality(sample_rate_hz=RATE, channels=1)
    assert measured(wav(speech()[RATE : RATE + 6000]), tmp_path).loudness_lufs is None


def test_the_peak_is_that_of_the_loudest_channel(tmp_path):
    left, right = np.zeros(RATE, np.int16), np.zeros(RATE, np.int16)
    right[9000] = -16384
    assert measured(wav(np.stack([left, right], axis=1)), tmp_path).peak_dbfs == pytest.approx(-6.02, abs=0.01)


def test_clipping_is_the_share_of_moments_that_were_cut_off(tmp_path):
    loud = speech().astype(float) * (1.5 * 32768 / np.abs(speech()).max())
    cut_off = np.clip(np.round(loud), -32768, 32767).astype(np.int16)
    share = float(np.mean(np.abs(loud) >= 32767))
    assert share > 0.0002
    assert measured(wav(cut_off), tmp_path).clipped_ratio == pytest.approx(share, rel=0.02)
    full_scale = speech().astype(float) * (32000 / np.abs(speech()).max())
    assert measured(wav(full_scale.astype(np.int16)), tmp_path).clipped_ratio == 0.0


def test_a_telephone_codec_clips_below_full_scale(tmp_path):
    loud = np.clip(speech().astype(float) * (3 * 32768 / np.abs(speech()).max()), -32768, 32767).astype(np.int16)
    assert measured(encode(loud, "au", "pcm_mulaw", rate=8000), tmp_path).clipped_ratio > 0.001


@pytest.mark.parametrize("wanted", [0, 10, 20])
def test_the_snr_of_speech_with_noise_added_is_found(wanted, tmp_path):
    """The clips have 23 dB by themselves, so nothing above that can be told by adding noise."""
    clean = np.concatenate([speech(), silence(3), speech()]).astype(float)
    power = float(np.mean(clean[: len(speech())] ** 2))
    noise = np.random.default_rng(7).standard_normal(len(clean)) * math.sqrt(power / 10 ** (wanted / 10))
    found = measured(wav(np.clip(clean + noise, -32768, 32767).astype(np.int16)), tmp_path)
    assert found.snr_db == pytest.approx(wanted, abs=3)


def test_speech_ratio_is_the_share_of_the_time(tmp_path):
    whole = measured(wav(speech()), tmp_path).speech_ratio
    half = measured(wav(np.concatenate([speech(), np.zeros_like(speech())])), tmp_path).speech_ratio
    assert 0.8 < whole < 0.95
    assert half == pytest.approx(whole / 2, abs=0.02)


@pytest.mark.parametrize("cut_hz", [3400, 5500])
def test_the_bandwidth_is_that_of_the_sound_and_not_of_the_file(cut_hz, tmp_path):
    """White noise below a frequency, in a file that could hold 24 kHz, and beyond the 8 kHz that engines hear."""
    rng = np.random.default_rng(3)
    for edge, rate in ((cut_hz, 48_000), (12_000, 48_000)):
        spectrum = np.fft.rfft(rng.standard_normal(10 * rate))
        spectrum[edge * 10 :] = 0
        sound = np.fft.irfft(spectrum)
        data = wav((sound / np.abs(sound).max() * 20_000).astype(np.int16), rate)
        assert measured(data, tmp_path).bandwidth_hz == pytest.approx(edge, abs=500)


def test_a_whistle_is_no_bandwidth(tmp_path):
    """As an old television makes it: 54 dB below its peak, 12 kHz above its end."""
    rate = 48_000
    spectrum = np.fft.rfft(np.random.default_rng(3).standard_normal(10 * rate))
    spectrum[40_000:] = 0
    sound = np.fft.irfft(spectrum)
    whistle = 0.002 * np.abs(sound).max() * np.sin(2 * np.pi * 15_625 * np.arange(10 * rate) / rate)
    data = wav(((sound + whistle) / np.abs(sound).max() * 15_000).astype(np.int16), rate)
    assert measured(data, tmp_path).bandwidth_hz == pytest.approx(4000, abs=500)


FORMATS = [("wav", "pcm_u8", 0.6), ("flac", "flac", 0.02), ("mp4", "aac", 0.3), ("ogg", "libopus", 0.3),
           ("wav", "pcm_s32le", 0.02), ("wav", "pcm_f32le", 0.02), ("wav", "pcm_f64le", 0.02)]  # fmt: skip


@pytest.mark.parametrize(("container", "codec", "off"), FORMATS)
def test_every_sample_format_has_the_same_measure(container, codec, off, tmp_path):
    plain = measured(wav(speech()), tmp_path)
    rate = 48_000 if codec in ("aac", "libopus") else RATE
    found = measured(encode(speech(), container, codec, rate=rate), tmp_path)
    assert found.loudness_lufs == pytest.approx(plain.loudness_lufs, abs=off + (0.25 if rate != RATE else 0))
    assert found.peak_dbfs == pytest.approx(plain.peak_dbfs, abs=off + 1)
    assert (found.sample_rate_hz, found.channels) == (rate, 1)


def test_floats_that_are_none_and_floats_without_bounds_are_measured_as_numbers(tmp_path):
    wild = speech().astype(np.float32) / 32768
    wild[5000], wild[6000], wild[7000] = np.nan, np.inf, -1e30
    buffer = io.BytesIO()
    soundfile.write(buffer, wild, RATE, format="WAV", subtype="FLOAT")
    found = measured(buffer.getvalue(), tmp_path)
    assert all(math.isfinite(value) for value in found.model_dump().values() if isinstance(value, float))
    assert found.clipped_ratio > 0


class Frame:
    """As much of a frame of PyAV as a meter looks at: interleaved 16-bit samples."""

    def __init__(self, samples, rate, channels):
        self.planes, self.samples, self.sample_rate = (samples.tobytes(),), len(samples) // channels, rate
        self.is_planar = False
        self.format = self
        self.packed = self
        self.name = "s16"
        self.layout = self
        self.nb_channels = channels
        self.channels = ()


def test_a_change_of_format_in_the_middle_is_measured_through():
    meter = AudioMeter()
    loud = (sine((-23, 4))[0] * 32767).astype(np.int16)
    for start in range(0, len(loud), 1024):
        meter.frame(Frame(np.repeat(loud[start : start + 1024], 2), 48_000, 2))
    for start in range(0, len(loud), 1024):
        meter.frame(Frame(np.repeat(loud[start : start + 1024], 2), 48_000, 2))
    mono = (sine((-20, 4), rate=16_000)[0] * 32767).astype(np.int16)
    meter.frame(Frame(mono, 16_000, 1))
    found = meter.measures()
    assert found["loudness_lufs"] == pytest.approx(-23.0, abs=0.15)
    assert found["peak_dbfs"] == pytest.approx(-20, abs=0.05)
    assert (found["sample_rate_hz"], found["channels"]) == (48_000, 2)


def test_a_file_of_nothing_but_changes_of_format_costs_no_more_than_a_hundred():
    meter = AudioMeter()
    for number in range(1000):
        meter.frame(Frame(np.full(160, 1000, np.int16), 16_000 + number % 2, 1))
    assert meter.measures()["peak_dbfs"] == pytest.approx(-30.31, abs=0.01)


def test_memory_does_not_grow_with_the_recording():
    """What a meter holds after a minute is what it holds after ten."""
    sizes = []
    meter, speaking = AudioMeter(), SpeechMeter()
    block = np.tile(speech(), 3)[: 60 * RATE]
    for minute in range(10):
        for start in range(0, len(block), 4096):
            meter.frame(Frame(block[start : start + 4096], RATE, 1))
        speaking.push(block, [0.9] * (len(block) // 512))
        if minute in (0, 9):
            sizes.append(held_by(meter) + held_by(speaking))
    assert sizes[1] <= sizes[0] * 1.6  # the samples that wait for a whole block come and go


def held_by(thing, seen=None) -> int:
    """Bytes of the arrays below an object."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return 0
    seen.add(id(thing))
    if isinstance(thing, np.ndarray):
        return thing.nbytes
    below = thing if isinstance(thing, list | tuple) else getattr(thing, "__dict__", {}).values()
    return sum(held_by(item, seen) for item in below)


@pytest.mark.parametrize("form", ["s16", "s16p"])
def test_channels_are_told_apart_whether_they_lie_in_turn_or_one_after_the_other(form):
    """Frames of PyAV: silence on the left, a tone on the right, as loud as the tone alone."""
    import av

    tone = (sine((-20, 2))[:1] * 32767).astype(np.int16)
    both = np.concatenate([np.zeros_like(tone), tone])
    meter, alone = AudioMeter(), AudioMeter()
    for part in (slice(0, 50_000), slice(50_000, None)):
        laid_out = both[:, part] if form == "s16p" else np.ascontiguousarray(both[:, part].T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(laid_out, format=form, layout="stereo")
        frame.sample_rate = 48_000
        meter.frame(frame)
        alone.frame(Frame(tone[0, part], 48_000, 1))
    assert meter.measures() | {"channels": 1} == alone.measures()


async def test_the_decoders_last_word_says_how_the_recording_sounds(tmp_path):
    [*_, end] = [item async for item in IsolatedDecoder(ffmpeg="").cut(JFK)]
    assert end.quality.loudness_lufs == pytest.approx(REFERENCE["jfk.flac"], abs=0.02)
    assert (end.quality.sample_rate_hz, end.quality.channels) == (44_100, 2)
    assert end.quality.bandwidth_hz > 8000  # of the file, not of the 16 kHz that engines hear


async def test_of_what_only_ffmpeg_decodes_the_bandwidth_is_not_known(tmp_path):
    """A stand-in for the binary: all that is left of the file are 16 kHz samples."""
    pcm, binary, exotic = tmp_path / "pcm", tmp_path / "ffmpeg", tmp_path / "exotic"
    pcm.write_bytes(speech().tobytes())
    binary.write_text(f"#!/bin/sh\nexec cat {pcm}\n")
    binary.chmod(0o755)
    exotic.write_bytes(b"\x01exotic" * 100)
    [*_, end] = [item async for item in IsolatedDecoder(ffmpeg=str(binary)).cut(exotic)]
    assert end.quality.loudness_lufs == pytest.approx(-24.3, abs=0.3)
    assert (end.quality.bandwidth_hz, end.quality.sample_rate_hz, end.quality.channels) == (None, None, None)
