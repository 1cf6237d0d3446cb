"""One batch through Whisper: encode, detect the language, decode, find out when each word was said.

Drives CTranslate2 itself. faster-whisper's own pipeline for batches knows one language for all, lets the times of one
clip depend on the clip before it, never looks at its doubts, and cuts what is longer than 30 s
(docs/adr/0008-batches-across-recordings.md).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from earshot.adapters.whisper_windows import Window
from earshot.adapters.whisper_words import TimedWord, timed

BEAM_SIZE = 5
SAMPLES = 5  # of a clip, when it is decoded again at a temperature
TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
REPETITIVE, UNLIKELY, SILENT = 2.4, -1.0, 0.6
"""Doubt: a text that shrinks more when compressed, a mean log probability below, a probability of no speech above.

These, the temperatures and the numbers of beams and samples are Whisper's own and faster-whisper's defaults.
"""
MAX_LENGTH = 448  # tokens of Whisper's text context
MAX_PROMPT = MAX_LENGTH // 2 - 1  # of these, what a prompt may take: as much is left for the text
TRANSLATED = "en"  # what Whisper translates into
OPTIONS = {"beam_size": BEAM_SIZE, "temperatures": TEMPERATURES, "timestamps": False, "decoder": 1}
"""Part of every transcript's cache key; ``decoder`` rises with a change here that changes texts."""


@dataclass(frozen=True)
class Wanted:
    """What all windows of a batch have in common: language (empty: detect it), task, and words to expect."""

    language: str
    task: str
    hotwords: str
    prompt: str


@dataclass(frozen=True)
class Heard:
    """What was heard in a window, in seconds of its clip; ``words`` may lack some at the end of the text."""

    text: str
    start: float
    end: float
    words: list[TimedWord]
    language: str


@dataclass(frozen=True)
class Hypothesis:
    """One way to read a window, and how far the model believes in it."""

    tokens: list[int]
    text: str
    log_probability: float
    no_speech: float
    compression: float

    @property
    def silent(self) -> bool:
        """Nothing was said."""
        return self.no_speech > SILENT and self.log_probability < UNLIKELY

    @property
    def doubtful(self) -> bool:
        """Worth another try."""
        return not self.silent and (self.compression > REPETITIVE or self.log_probability < UNLIKELY)


class BatchDecoder:
    """Decodes batches with one model, a batch at a time.

    Args:
        model: a ``faster_whisper.WhisperModel``.
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    def decode(self, windows: Sequence[Window], wanted: Wanted) -> list[Heard]:
        """What was heard in each window. Its result does not depend on the others, where the model is sure.

        Raises:
            RuntimeError, MemoryError: of CTranslate2; also when the device runs out of memory.
        """
        if not windows:
            return []
        encoded = self._encode(windows)
        if wanted.language:
            return self._decode(windows, encoded, wanted, wanted.language)
        places = defaultdict[str, list[int]](list)
        for place, language in enumerate(self._languages(encoded, len(windows))):
            places[language].append(place)
        if len(places) == 1:
            return self._decode(windows, encoded, wanted, next(iter(places)))
        heard: dict[int, Heard] = {}
        for language, those in places.items():
            some = [windows[place] for place in those]
            heard |= zip(those, self._decode(some, self._encode(some), wanted, language), strict=True)
        return [heard[place] for place in range(len(windows))]

    def _encode(self, windows: Sequence[Window]) -> Any:
        import numpy as np

        return self._model.encode(np.stack([window.features for window in windows]))

    def _languages(self, encoded: Any, count: int) -> list[str]:
        if not self._model.model.is_multilingual:
            return ["en"] * count
        return [ranked[0][0].strip("<|>") for ranked in self._model.model.detect_language(encoded)]

    def _decode(self, windows: Sequence[Window], encoded: Any, wanted: Wanted, language: str) -> list[Heard]:
        from faster_whisper.tokenizer import Tokenizer

        multilingual = self._model.model.is_multilingual
        task = "transcribe" if language == TRANSLATED else wanted.task
        tokenizer = Tokenizer(self._model.hf_tokenizer, multilingual, task=task, language=language)
        chosen = self._choose(windows, encoded, prompt(tokenizer, wanted), tokenizer)
        words = self._words(windows, encoded, tokenizer, chosen)
        return [
            Heard(hypothesis.text, window.start_s, window.end_s, found, language)
            for window, hypothesis, found in zip(windows, chosen, words, strict=True)
        ]

    def _choose(self, windows: Sequence[Window], encoded: Any, start: list[int], tokenizer: Any) -> list[Hypothesis]:
        """The best reading of each window: the first that is not doubtful, with rising temperatures."""
        tried = [list[Hypothesis]() for _ in windows]
        places = list(range(len(windows)))
        for temperature in TEMPERATURES:
            for place, hypothesis in zip(
                places, self._generate(encoded, len(places), start, tokenizer, temperature), strict=True
            ):
                tried[place].append(hypothesis)
            again = [place for place in places if tried[place][-1].doubtful]
            if again and len(again) < len(places):
                encoded = self._encode([windows[place] for place in again])
            places = again
            if not places:
                break
        return [_best(hypotheses) for hypotheses in tried]

    def _generate(
        self, encoded: Any, count: int, start: list[int], tokenizer: Any, temperature: float
    ) -> Iterator[Hypothesis]:
        from faster_whisper.transcribe import get_compression_ratio, get_suppressed_tokens

        how = {"beam_size": 1, "num_hypotheses": SAMPLES, "sampling_topk": 0, "sampling_temperature": temperature}
        results = self._model.model.generate(
            encoded,
            [start] * count,
            max_length=MAX_LENGTH,
            return_scores=True,
            return_no_speech_prob=True,
            suppress_tokens=list(get_suppressed_tokens(tokenizer, [-1])),
            **(how if temperature else {"beam_size": BEAM_SIZE}),
        )
        for result in results:
            tokens, text = result.sequences_ids[0], tokenizer.decode(result.sequences_ids[0]).strip()
            # the score is a mean over the tokens; the end of the text counts as one
            probability = result.scores[0] * len(tokens) / (len(tokens) + 1)
            yield Hypothesis(tokens, text, probability, result.no_speech_prob, get_compression_ratio(text))

    def _words(
        self, windows: Sequence[Window], encoded: Any, tokenizer: Any, chosen: Sequence[Hypothesis]
    ) -> list[list[TimedWord]]:
        """When each word of each window was said; one call for the batch."""
        texts = [[token for token in hypothesis.tokens if token < tokenizer.eot] for hypothesis in chosen]
        spoken = [bool(hypothesis.text) for hypothesis in chosen]
        if not any(spoken):
            return [[] for _ in windows]
        frames = [window.frames for window in windows]
        found = self._model.find_alignment(tokenizer, texts, encoded, frames)
        return [
            timed(alignment, window.start_s) if some else []
            for some, alignment, window in zip(spoken, found, windows, strict=True)
        ]


def prompt(tokenizer: Any, wanted: Wanted) -> list[int]:
    """The tokens that a batch begins with: what to expect, within half of the context, then language and task."""
    said = " ".join(part for text in (wanted.prompt, wanted.hotwords) if (part := text.strip()))
    expected = tokenizer.encode(f" {said}")[-MAX_PROMPT:] if said else []
    before = [tokenizer.sot_prev, *expected] if expected else []
    return [*before, *tokenizer.sot_sequence, tokenizer.no_timestamps]


def _best(tried: Sequence[Hypothesis]) -> Hypothesis:
    """The last one when it is not doubtful; else the likeliest of those that do not repeat themselves, or of all."""
    if not tried[-1].doubtful:
        last = tried[-1]
        return Hypothesis([], "", last.log_probability, last.no_speech, 0.0) if last.silent else last
    sober = [hypothesis for hypothesis in tried if hypothesis.compression <= REPETITIVE]
    return max(sober or tried, key=lambda hypothesis: hypothesis.log_probability)
