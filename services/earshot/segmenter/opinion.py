"""What people would think of how a recording sounds, as a model predicts it from some of its segments."""

from __future__ import annotations

from earshot.kernel.events import Quality
from earshot.kernel.ports import CutEnd, CutSegment, MosPredictor


class Opinion:
    """The mean over segments 0, 1, 2, 4, 8, …: a day of speech costs a dozen predictions.

    Args:
        predictor: ``None``: there is no opinion.
    """

    def __init__(self, predictor: MosPredictor | None) -> None:
        self._predictor = predictor
        self._scores: list[float] = []

    async def hear(self, piece: CutSegment) -> None:
        """Let the predictor hear a segment, if it is one of those."""
        if self._predictor is not None and piece.index & (piece.index - 1) == 0:
            score = await self._predictor.score(piece.flac)
            self._scores += [] if score is None else [score]

    def add(self, end: CutEnd) -> Quality | None:
        """What the decoder measured, with the opinion."""
        quality = end.quality
        if quality is not None and self._predictor is not None and self._scores:
            mean = round(sum(self._scores) / len(self._scores), 3)
            quality = quality.model_copy(update={"mos": mean, "mos_model": self._predictor.model})
        return quality
