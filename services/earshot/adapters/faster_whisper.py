"""The engine: Whisper on CTranslate2, with a model that is on this disk. Makes no network call of its own."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from earshot.adapters import flac
from earshot.adapters.pocketsphinx import primary
from earshot.adapters.whisper_batch import OPTIONS, TRANSLATED, BatchDecoder, Heard, Wanted
from earshot.adapters.whisper_windows import Window, one_ahead, windows
from earshot.adapters.whisper_words import words_of
from earshot.kernel.errors import Misconfigured
from earshot.kernel.events import Engine
from earshot.kernel.ports import Clip, Recognized, doubted

NAME = "faster-whisper"
NO_TRANSLATOR = ("turbo", "distil")
"""In the names of models that were trained without translation, and transcribe when they are asked to translate."""


class FasterWhisper:
    """Lives in the engine's process. Clips of different recordings share the device's batches.

    Args:
        model: the model's name, as a person knows it.
        folder: where it lies.
        device: ``cpu`` or ``cuda``.
        compute_type: as CTranslate2 calls them: ``int8``, ``float16``, …
        cpu_threads: of one call; 0: CTranslate2 decides.
        batch_size: windows of at most 30 s that the device decodes at once.

    Raises:
        Misconfigured: the model cannot be loaded on this device.
    """

    def __init__(
        self, model: str, folder: str, device: str, compute_type: str, cpu_threads: int, batch_size: int = 16
    ) -> None:
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
        self._decoder, self._batch_size = BatchDecoder(self._model), batch_size
        digest = _digest(Path(folder) / "model.bin")
        self.engine = Engine(name=NAME, model=model, digest=digest, device=device, degraded=False, reason="")
        versions = {name: version(name) for name in (NAME, "ctranslate2")}
        self.options: dict[str, Any] = {**OPTIONS, **versions, "compute_type": compute_type}

    def recognize(self, clips: Sequence[Clip]) -> list[Recognized]:
        """One result a clip, in order. What the next batch needs is made while the device decodes one.

        Raises:
            NotAudio, BlobMismatch, LimitExceeded: of :func:`earshot.adapters.flac.samples`.
            RuntimeError, MemoryError: of CTranslate2; also when the device runs out of memory.
        """
        heard = [list[Heard]() for _ in clips]

        def prepared(batch: tuple[Wanted, list[int]]) -> tuple[Wanted, list[Window]]:
            return batch[0], self._windows(batch[1], clips)

        for wanted, ready in one_ahead(prepared, self._batches(clips)):
            for start in range(0, len(ready), self._batch_size):
                some = ready[start : start + self._batch_size]
                for window, result in zip(some, self._decoder.decode(some, wanted), strict=True):
                    heard[window.clip].append(result)
        return [self._result(clip, results) for clip, results in zip(clips, heard, strict=True)]

    def _batches(self, clips: Sequence[Clip]) -> Iterator[tuple[Wanted, list[int]]]:
        """Numbers of clips that may share a batch: of one language, with the same task and words to expect."""
        alike = defaultdict[Wanted, list[int]](list)
        for number, clip in enumerate(clips):
            alike[self._wanted(clip)].append(number)
        for wanted, numbers in alike.items():
            for start in range(0, len(numbers), self._batch_size):
                yield wanted, numbers[start : start + self._batch_size]

    def _wanted(self, clip: Clip) -> Wanted:
        language = primary(clip.language)
        return Wanted(language if self._knows(language) else "", clip.task, clip.hotwords, clip.prompt)

    def _knows(self, language: str) -> bool:
        return language in self._model.supported_languages

    def _windows(self, numbers: Sequence[int], clips: Sequence[Clip]) -> list[Window]:
        """Decoded, and as features."""
        extractor = self._model.feature_extractor
        return [window for number in numbers for window in windows(number, flac.samples(clips[number].flac), extractor)]

    def _result(self, clip: Clip, heard: Sequence[Heard]) -> Recognized:
        text = " ".join(window.text for window in heard if window.text)
        declared, known = primary(clip.language), self._knows(primary(clip.language))
        detected = next((window.language for window in heard if window.text or window is heard[-1]), "")
        spoken = clip.language if known or not detected else detected
        notes = [self._taken_for(declared, detected)] if declared and detected and not known else []
        translated = clip.task == "translate" and bool(heard) and primary(spoken) != TRANSLATED
        if translated and any(part in self.engine.model for part in NO_TRANSLATOR):
            notes.append(
                f"Translation was asked for, which {self.engine.model} was not trained for: this is a transcript. "
                "Set EARSHOT_TRANSCRIBER__MODEL to large-v3 or medium."
            )
            translated = False
        return Recognized(
            text,
            words_of(heard, clip),
            TRANSLATED if translated else spoken,
            doubted(self.engine, " ".join(notes)),
            translated_from=spoken if translated else "",
        )

    def _taken_for(self, declared: str, heard: str) -> str:
        """What to say of speech declared as a language that the model does not know."""
        what = f"The language was declared {declared!r}, which {self.engine.model} does not know; taken for {heard!r}."
        return f"{what} Set EARSHOT_TRANSCRIBER__MODEL to a model that knows it, such as large-v3."


def _digest(path: Path) -> str:
    """SHA-256 of the weights."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
