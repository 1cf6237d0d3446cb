"""A Whisper that truly hears the clips of ``examples/audio``, and what is in them: see ``tests/fixtures/README.md``."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from tests.audio import EXAMPLES

MODEL = Path(__file__).parent / "fixtures" / "whisper"
BACKWARDS = "de"
"""What the model takes speech that runs backwards for."""


@dataclass(frozen=True)
class Spoken:
    """A clip, 16 kHz mono 16 bit, and what is said in it."""

    name: str
    samples: np.ndarray
    text: str

    def backwards(self) -> Spoken:
        """The clip and its words in reversed order."""
        return Spoken(f"{self.name} backwards", self.samples[::-1].copy(), " ".join(self.text.split()[::-1]))


@cache
def spoken() -> tuple[Spoken, ...]:
    """Every clip with its true words."""
    from faster_whisper.audio import decode_audio

    with (EXAMPLES / "transcripts.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return tuple(
        Spoken(row["file"], (decode_audio(str(EXAMPLES / row["file"])) * 32768).astype(np.int16), row["text"])
        for row in rows
    )
