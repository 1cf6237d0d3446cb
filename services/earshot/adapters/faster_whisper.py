"""The engine: faster-whisper with a model that is on this disk. Makes no network call of its own."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from earshot.adapters import flac
from earshot.adapters.pocketsphinx import primary
from earshot.kernel.errors import Misconfigured
from earshot.kernel.events import Engine, Word
from earshot.kernel.ports import Clip, Recognized
from earshot.kernel.words import spread

NAME = "faster-whisper"
_FULL_SCALE = 32768.0
_SETTINGS = {"beam_size": 5, "condition_on_previous_text": False, "vad_filter": False, "word_timestamps": True}


class FasterWhisper:
    """Lives in the engine's process.

    Args:
        model: the model's name, as a person knows it.
        folder: where it lies.
        device: ``cpu`` or ``cuda``.
        compute_type: as CTranslate2 calls them: ``int8``, ``float16``, …
        cpu_threads: of one call; 0: CTranslate2 decides.

    Raises:
        Misconfigured: the model cannot be loaded on this device.
    """

    def __init__(self, model: str, folder: str, device: str, compute_type: str, cpu_threads: int) -> None:
        # Read when huggingface_hub is imported, below: what is needed lies in the folder.
        os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")
        from faster_whisper import WhisperModel

        try:
            self._model = WhisperModel(folder, device=device, compute_type=compute_type, cpu_threads=cpu_threads)
        except (RuntimeError, ValueError, OSError) as error:
            raise Misconfigured(
                f"faster-whisper cannot load {folder} on {device} as {compute_type}: {error}",
                next_step="Pull the model again, or change EARSHOT_TRANSCRIBER__DEVICE, __COMPUTE_TYPE or __ENGINE.",
            ) from None
        digest = _digest(Path(folder) / "model.bin")
        self.engine = Engine(name=NAME, model=model, digest=digest, device=device, degraded=False, reason="")
        versions = {name: version(name) for name in (NAME, "ctranslate2")}
        self.options: dict[str, Any] = {**_SETTINGS, **versions, "compute_type": compute_type}

    def recognize(self, clips: Sequence[Clip]) -> list[Recognized]:
        """One result a clip. Raises what :func:`earshot.adapters.flac.samples` raises."""
        return [self._recognize(clip) for clip in clips]

    def _recognize(self, clip: Clip) -> Recognized:
        samples = flac.samples(clip.flac).astype("float32") / _FULL_SCALE
        if not len(samples):
            return Recognized("", [], clip.language, self.engine)
        declared = primary(clip.language)
        known = declared in self._model.supported_languages
        segments, info = self._model.transcribe(samples, language=declared if known else None, **_SETTINGS)
        heard = list(segments)  # the work happens here: it is a generator
        text = " ".join(part for segment in heard if (part := segment.text.strip()))
        engine = self.engine if known or not declared else self._unsure(declared, info.language)
        return Recognized(text, words_of(heard, clip), clip.language if known else info.language, engine)

    def _unsure(self, declared: str, heard: str) -> Engine:
        """The engine as it stands behind speech declared as a language that the model does not know."""
        reason = (
            f"The language was declared {declared!r}, which {self.engine.model} does not know; taken for {heard!r}."
        )
        next_step = "Set EARSHOT_TRANSCRIBER__MODEL to a model that knows it, such as large-v3."
        return self.engine.model_copy(update={"degraded": True, "reason": f"{reason} {next_step}"})


def words_of(segments: Iterable[Any], clip: Clip) -> list[Word]:
    """The words of faster-whisper's segments, in order and inside their clip (its own times may overrun the end).

    It may fail to align the end of a text; the words of such a segment are spread over it, so that none is lost.
    """
    words, before = list[Word](), clip.start_ms
    for segment in segments:
        measured = list(segment.words or ())
        if "".join(word.word for word in measured).strip() == segment.text.strip():
            found = [_word(word, clip, before) for word in measured if word.word.strip()]
        else:
            start, end = _within(segment, clip, before)
            found = spread(segment.text, start, end)
        for word in found:
            before = max(before, word.start_ms)
            words.append(word.model_copy(update={"start_ms": before, "end_ms": max(word.end_ms, before)}))
    return words


def _word(word: Any, clip: Clip, earliest_ms: int) -> Word:
    start, end = _within(word, clip, earliest_ms)
    confidence = min(max(float(word.probability), 0.0), 1.0)
    return Word(text=word.word.strip(), start_ms=start, end_ms=end, confidence=confidence, speaker=None)


def _within(timed: Any, clip: Clip, earliest_ms: int) -> tuple[int, int]:
    """Start and end, from seconds of the clip to milliseconds of the recording, not outside the clip."""
    start = min(max(clip.start_ms + round(timed.start * 1000), earliest_ms), clip.end_ms)
    return start, min(max(clip.start_ms + round(timed.end * 1000), start), clip.end_ms)


def _digest(path: Path) -> str:
    """SHA-256 of the weights."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
