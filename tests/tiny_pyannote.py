"""A pipeline for pyannote.audio that is truly right about two tones: one voice hums low, the other high.

The real classes throughout, loaded from a folder laid out as the public pipelines are; only the two networks are
filters with nothing to learn. Their module must be importable where the pipeline is loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyannote.audio import __version__
from pyannote.audio.core.model import Model
from pyannote.audio.core.task import Problem, Resolution, Specifications

RATE = 16_000
FRAME = 320  # samples: 20 ms
BANDS = 8
SPLIT_HZ = 1000
CHUNK_S = 5.0
LOUD = 1e-3
CONFIG = """dependencies:
  pyannote.audio: 4.0.0
pipeline:
  name: pyannote.audio.pipelines.SpeakerDiarization
  params:
    clustering: VBxClustering
    segmentation: $model/segmentation
    segmentation_batch_size: 8
    embedding: $model/embedding
    embedding_batch_size: 8
    embedding_exclude_overlap: true
    plda: $model/plda
params:
  clustering: {threshold: 0.6, Fa: 0.07, Fb: 0.8}
  segmentation: {min_duration_off: 0.0}
"""


class Framed(Model):
    """What both networks share: frames of 20 ms, and the power in each band of each."""

    def __init__(self, sample_rate: int = RATE, num_channels: int = 1, task: Any = None) -> None:
        super().__init__(sample_rate=sample_rate, num_channels=num_channels, task=task)
        self.gain = torch.nn.Parameter(torch.ones(1))

    def num_frames(self, num_samples: int) -> int:
        return num_samples // FRAME

    def receptive_field_size(self, num_frames: int = 1) -> int:
        return num_frames * FRAME

    def receptive_field_center(self, frame: int = 0) -> int:
        return frame * FRAME + FRAME // 2

    def power(self, waveforms: torch.Tensor) -> torch.Tensor:
        """(batch, 1, samples) to (batch, frames, bins)."""
        frames = waveforms[:, 0].unfold(-1, FRAME, FRAME)
        return torch.fft.rfft(frames * torch.hann_window(FRAME), norm="forward").abs() * self.gain


class TwoTones(Framed):
    """Who hums in each frame: nobody, the low one, the high one, or both."""

    @property
    def dimension(self) -> int:
        return 4

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        power = self.power(waveforms)
        split = SPLIT_HZ * FRAME // RATE
        low, high = power[..., :split].amax(-1) > LOUD, power[..., split:].amax(-1) > LOUD
        return torch.nn.functional.one_hot(low * 1 + high * 2, 4).float().clamp(1e-6).log()


class Timbre(Framed):
    """Where in the spectrum a voice is, as a vector."""

    @property
    def dimension(self) -> int:
        return BANDS

    def forward(self, waveforms: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
        power = self.power(waveforms)
        bands = torch.stack([band.sum(-1) for band in power.split(power.shape[-1] // BANDS + 1, dim=-1)], dim=-1)
        if weights is None:
            weights = torch.ones(bands.shape[:2])
        spread = torch.nn.functional.interpolate(weights[:, None], size=bands.shape[1], mode="nearest")[:, 0]
        return (bands * spread[..., None]).sum(1) + 1e-6


def make_pipeline(folder: Path) -> Path:
    """Write the pipeline and return its folder."""
    chunk = {"duration": CHUNK_S}
    segmentation = Specifications(
        problem=Problem.MONO_LABEL_CLASSIFICATION, resolution=Resolution.FRAME, classes=["low", "high"],
        powerset_max_classes=2, permutation_invariant=True, **chunk,
    )  # fmt: skip
    embedding = Specifications(problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, **chunk)
    _save(TwoTones(), segmentation, folder / "segmentation")
    _save(Timbre(), embedding, folder / "embedding")
    plda = folder / "plda"
    plda.mkdir()
    np.savez(plda / "xvec_transform.npz", mean1=np.zeros(BANDS), mean2=np.zeros(BANDS), lda=np.eye(BANDS))
    np.savez(plda / "plda.npz", mu=np.zeros(BANDS), tr=np.eye(BANDS), psi=np.linspace(20, 10, BANDS))
    (folder / "config.yaml").write_text(CONFIG)
    return folder


def _save(model: Framed, specifications: Specifications, folder: Path) -> None:
    folder.mkdir(parents=True)
    about = {
        "versions": {"pyannote.audio": __version__},
        "architecture": {"module": "tests.tiny_pyannote", "class": type(model).__name__},
        "specifications": specifications,
    }
    state = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams), "pyannote.audio": about}
    torch.save(state | {"pytorch-lightning_version": "2.0.0"}, folder / "pytorch_model.bin")
