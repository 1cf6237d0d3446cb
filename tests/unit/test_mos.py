"""The predictor of opinions: its loading code on a tiny network, and which segments it hears."""

import io

import numpy as np
import pytest
import soundfile

from earshot.adapters.dnsmos import OVERALL, Dnsmos
from earshot.kernel.errors import Misconfigured
from earshot.kernel.events import Quality
from earshot.kernel.ports import CutEnd, CutSegment
from earshot.segmenter.opinion import Opinion
from tests.fakes_mos import FakeMos, write_network


def flac(level: float, seconds: float) -> bytes:
    buffer = io.BytesIO()
    samples = np.full(int(seconds * 16_000), round(level * 32768), np.int16)
    soundfile.write(buffer, samples, 16_000, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


@pytest.mark.parametrize("seconds", [0.5, 9.01, 30])
async def test_the_score_is_the_third_output_through_the_published_polynomial(tmp_path, seconds):
    """A network of the right shape that says thrice the mean level; short clips are repeated, long ones cut."""
    predictor = Dnsmos(write_network(tmp_path / "sig_bak_ovr.onnx"))
    assert await predictor.score(flac(0.9, seconds)) == pytest.approx(np.polyval(OVERALL, 2.7), abs=0.01)
    assert (predictor.device, predictor.model[:12]) == ("cpu", "dnsmos-p835:")


async def test_a_score_stays_within_1_and_5(tmp_path):
    assert await Dnsmos(write_network(tmp_path / "model.onnx")).score(flac(0.0, 1)) == 1.0


def test_a_file_that_is_no_such_model_is_named_at_start(tmp_path):
    garbage = tmp_path / "garbage.onnx"
    garbage.write_bytes(b"no model")
    for path in (garbage, tmp_path / "none.onnx", write_network(tmp_path / "two.onnx", outputs=2)):
        with pytest.raises(Misconfigured, match="is no DNSMOS"):
            Dnsmos(path)


async def test_a_model_that_fails_leaves_the_recording_without_a_score(tmp_path):
    """A network for shorter clips than it is given."""
    assert await Dnsmos(write_network(tmp_path / "short.onnx", samples=100)).score(flac(0.5, 1)) is None


def piece(index: int) -> CutSegment:
    return CutSegment(index, 0, 1, b"%d" % index, "", 1)


async def test_of_many_segments_a_dozen_are_heard_and_the_mean_is_said():
    predictor = FakeMos([3.0, None, 4.0, 5.0, 2.0, 1.0, 3.0])
    opinion = Opinion(predictor)
    for index in range(33):
        await opinion.hear(piece(index))
    assert predictor.heard == [b"0", b"1", b"2", b"4", b"8", b"16", b"32"]
    found = opinion.add(CutEnd(1000, 33, quality=Quality(snr_db=20)))
    assert (found.mos, found.mos_model, found.snr_db) == (3.0, "fake", 20)


async def test_without_a_predictor_or_a_score_there_is_no_opinion():
    silent = Opinion(FakeMos([None]))
    await silent.hear(piece(0))
    for opinion in (Opinion(None), silent):
        assert opinion.add(CutEnd(1000, 1, quality=Quality())) == Quality()
        assert opinion.add(CutEnd(1000, 1)) is None
