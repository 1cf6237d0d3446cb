"""The fallback engine: pocketsphinx with the US English model that lies inside its package. Nothing to download."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earshot.adapters import flac
from earshot.kernel.errors import EngineRejected
from earshot.kernel.events import Engine, Word
from earshot.kernel.ports import Clip, Recognized, doubted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME, MODEL, LANGUAGE = "pocketsphinx", "en-us", "en"
FRAMES_PER_SECOND = 100  # the decoder's default ``frate``
_FILLER = re.compile(r"[<\[+]")  # <s>, <sil>, [NOISE], ++BREATH++: how the dictionary writes what is no word
_VARIANT = re.compile(r"\(\d+\)$")  # the dictionary's suffix for the second pronunciation of a word


class PocketSphinx:
    """Lives in the engine's process.

    Args:
        reason: why this engine does the work, and how to turn the real one on.
    """

    def __init__(self, reason: str) -> None:
        from pocketsphinx import Decoder, get_model_path

        self._decoder = Decoder(samprate=flac.SAMPLE_RATE, loglevel="FATAL")
        digest = _digest(Path(get_model_path(MODEL)))
        self.engine = Engine(name=NAME, model=MODEL, digest=digest, device="cpu", degraded=True, reason=reason)
        self.options: dict[str, Any] = {"version": version("pocketsphinx"), "full_utterance": True}

    def recognize(self, clips: Sequence[Clip]) -> list[Recognized]:
        """One result a clip. Raises what :func:`earshot.adapters.flac.samples` raises, and ``EngineRejected``."""
        return [self._recognize(clip) for clip in clips]

    def _recognize(self, clip: Clip) -> Recognized:
        words = [word for segment in self._decode(flac.samples(clip.flac)) if (word := _word(segment, clip))]
        text = " ".join(word.text for word in words)
        declared, notes = primary(clip.language), list[str]()
        if not (known := declared in ("", LANGUAGE)):
            notes.append(f"The language was declared {declared!r}; {NAME} knows English only.")
        if wishes := _wishes(clip, known=known):
            notes.append(f"{NAME} does not listen to {wishes}.")
        return Recognized(text, words, LANGUAGE if known else clip.language, doubted(self.engine, " ".join(notes)))

    def _decode(self, samples: NDArray[np.int16]) -> Iterable[Any]:
        """The decoder's word segments, the same as from a decoder that has never heard anything before."""
        if not len(samples):
            return ()
        try:
            self._decoder.reinit_feat()  # forgets the cepstral mean that the clip before has left behind
            self._decoder.start_utt()
            self._decoder.process_raw(samples.tobytes(), full_utt=True)
            self._decoder.end_utt()
        except RuntimeError as error:
            raise EngineRejected(f"{NAME} cannot decode the segment: {error}") from None
        return self._decoder.seg() or ()


def _wishes(clip: Clip, *, known: bool) -> str:
    """What is wished of a clip and cannot be had here, as a person calls it. English needs no translation."""
    wishes = {"hotwords": clip.hotwords, "a prompt": clip.prompt, "translation": clip.task == "translate" and not known}
    return ", ".join(name for name, wish in wishes.items() if wish)


def primary(language: str) -> str:
    """The primary subtag of a BCP 47 tag: ``en`` of ``en-US``."""
    return re.split("[-_]", language, maxsplit=1)[0].lower()


def _word(segment: Any, clip: Clip) -> Word | None:
    """A decoder's segment as a word inside its clip; ``None`` for silence and noise."""
    if _FILLER.match(segment.word):
        return None
    start = clip.start_ms + segment.start_frame * 1000 // FRAMES_PER_SECOND
    end = clip.start_ms + (segment.end_frame + 1) * 1000 // FRAMES_PER_SECOND  # the last frame belongs to the word
    return Word(
        text=_VARIANT.sub("", segment.word),
        start_ms=min(start, clip.end_ms),
        end_ms=min(end, clip.end_ms),
        confidence=min(max(float(segment.prob), 0.0), 1.0),
        speaker=None,
    )


def _digest(folder: Path) -> str:
    """SHA-256 over the names and contents of a model's files."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return total.hexdigest()
