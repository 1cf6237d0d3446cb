"""DNSMOS P.835 on onnxruntime: predicts how people would rate the sound of speech, 1 to 5.

The weights, ``sig_bak_ovr.onnx``, come with Microsoft's DNS Challenge (CC BY 4.0) and are not shipped here; a setting
names the file. Without it nothing is predicted.
"""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from earshot.adapters.flac import samples
from earshot.kernel.errors import Misconfigured

WINDOW = 144_160  # samples: the 9.01 s that the network was trained on
# The overall score from the network's third output, as published with the model (dnsmos_local.py of the challenge).
OVERALL = (-0.06766283, 1.11546468, 0.04602535)
OVERALL_OUTPUT = 2
DEVICES = (("CUDAExecutionProvider", "cuda"), ("CoreMLExecutionProvider", "mps"), ("CPUExecutionProvider", "cpu"))


class Dnsmos:
    """A :class:`~earshot.kernel.ports.MosPredictor`, on the best device that onnxruntime was built for.

    Args:
        path: of ``sig_bak_ovr.onnx``.

    Raises:
        Misconfigured: onnxruntime is not installed, or the file is no such model.
    """

    def __init__(self, path: Path) -> None:
        self._session = _session(path)
        self._input = self._session.get_inputs()[0].name
        self.device = dict(DEVICES)[self._session.get_providers()[0]]
        self.model = f"dnsmos-p835:{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"

    async def score(self, flac: bytes) -> float | None:
        """The overall score of the first 9 s of a segment; a shorter one is repeated. ``None``: the model failed."""
        return await asyncio.to_thread(self._score, flac)

    def _score(self, flac: bytes) -> float | None:
        heard = samples(flac).astype(np.float32) / np.float32(32768)
        try:
            (raw,) = self._session.run(None, {self._input: _window(heard)})
        except (
            Exception
        ) as error:  # onnxruntime has a class of its own for every failure; speech goes on without a score
            structlog.get_logger().warning("no MOS", model=self.model, device=self.device, error=str(error)[:300])
            return None
        value = float(np.polyval(OVERALL, raw[0][OVERALL_OUTPUT]))
        return min(5.0, max(1.0, value))


def _window(heard: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shape ``(1, WINDOW)``."""
    return np.resize(heard, WINDOW)[None]  # repeats what is too short


def _session(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise Misconfigured("onnxruntime is not installed.", next_step="pip install 'earshot[asr]'") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    there = set(onnxruntime.get_available_providers())
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=[provider for provider, _ in DEVICES if provider in there]
        )
    except Exception as error:  # onnxruntime has a class of its own for every failure
        raise _no_model(path, type(error).__name__) from None
    if session.get_outputs()[0].shape[-1] != OVERALL_OUTPUT + 1 or len(session.get_inputs()) != 1:
        raise _no_model(path, "another shape")
    return session


def _no_model(path: Path, why: str) -> Misconfigured:
    return Misconfigured(
        f"{path} is no DNSMOS P.835 model ({why}).",
        next_step="Name the file sig_bak_ovr.onnx of the DNS Challenge, or unset EARSHOT_SEGMENTER__MOS_MODEL.",
    )
