"""Silero VAD, streaming: the ONNX file that faster-whisper brings, run by onnxruntime alone."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from earshot.adapters.cutter import FRAME, Samples
from earshot.kernel.errors import Misconfigured

CONTEXT = 64  # samples of the frame before that the model sees again
BATCH = 32  # frames a run, always, so that rounding does not depend on how the samples come in
_STATE = (1, 1, 128)


def model_path() -> Path:
    """Where faster-whisper keeps the model; found without importing it. Raises ``Misconfigured``."""
    spec = find_spec("faster_whisper")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        for path in sorted(Path(folder, "assets").glob("silero_vad*.onnx")):
            return path
    raise Misconfigured(
        "faster-whisper, which brings the Silero VAD, is not installed.", next_step="pip install 'earshot[asr]'"
    )


class SileroVad:
    """Speech probabilities of 16 kHz samples, 512 at a time; its state is carried from frame to frame."""

    def __init__(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = options.intra_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(str(model_path()), options, providers=["CPUExecutionProvider"])
        self._h = np.zeros(_STATE, np.float32)
        self._c = np.zeros(_STATE, np.float32)
        self._context = np.zeros(CONTEXT, np.float32)
        self._waiting: list[Samples] = []
        self._count = 0

    def push(self, samples: Samples) -> Iterator[tuple[Samples, list[float]]]:
        """Take any number of samples; yield whole batches of frames with their probabilities."""
        self._waiting.append(samples)
        self._count += len(samples)
        if self._count < BATCH * FRAME:
            return
        held = np.concatenate(self._waiting)
        whole = len(held) - len(held) % (BATCH * FRAME)
        for start in range(0, whole, BATCH * FRAME):
            batch = held[start : start + BATCH * FRAME]
            yield batch, self._run(batch)
        self._waiting, self._count = [held[whole:]], len(held) - whole

    def end(self) -> Iterator[tuple[Samples, list[float]]]:
        """The samples that are left; the last frame may be short."""
        if self._count:
            rest = np.concatenate(self._waiting)
            self._waiting, self._count = [], 0
            yield rest, self._run(np.pad(rest, (0, -len(rest) % FRAME)))

    def _run(self, samples: Samples) -> list[float]:
        """Probabilities of whole frames, shape ``(len(samples) / 512,)``."""
        frames: NDArray[np.float32] = (samples / np.float32(32768)).astype(np.float32).reshape(-1, FRAME)
        before = np.vstack([self._context, frames[:-1, -CONTEXT:]])
        self._context = frames[-1, -CONTEXT:]
        inputs = {"input": np.hstack([before, frames]), "h": self._h, "c": self._c}
        output, self._h, self._c = self._session.run(None, inputs)
        return [float(probability) for probability in output.reshape(-1)]
