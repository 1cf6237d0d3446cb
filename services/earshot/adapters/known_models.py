"""The models that have a short name here: what each is, what it needs, and which files make it whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from earshot.kernel.errors import Permanent

Kind = Literal["speech", "embedding", "reranking", "diarization"]

NEEDED = ("config.json", "model.bin", "tokenizer.json")
PATTERNS = (*NEEDED, "preprocessor_config.json", "vocabulary.*")
NOT_NEEDED = ("onnx/*", "imgs/*", "assets/*")
"""What the repositories of BGE hold besides the model: the same weights once more, and pictures."""


@dataclass(frozen=True)
class Known:
    """A model by its short name.

    ``repository`` is empty for one that lies inside its package, ``package``; ``setting`` is what takes its folder.
    """

    kind: Kind
    repository: str
    disk_mb: int
    what: str
    package: str = ""
    setting: str = ""
    memory_mb: int = 0


# Sizes (MB = 10^6 bytes): of speech models, the file lists of their repositories on the hub, read in November 2026; of
# BGE, 568 million numbers of 4 bytes and the tokenizer; of the pipeline, its two networks with 8 million numbers; of
# what is in a package, its folder.
KNOWN = {
    "tiny": Known("speech", "Systran/faster-whisper-tiny", 78, "99 languages: fastest, least accurate"),
    "base": Known("speech", "Systran/faster-whisper-base", 148, "99 languages: the default on a CPU"),
    "small": Known("speech", "Systran/faster-whisper-small", 486, "99 languages: better, for a fast CPU"),
    "medium": Known("speech", "Systran/faster-whisper-medium", 1530, "99 languages"),
    "large-v3": Known("speech", "Systran/faster-whisper-large-v3", 3090, "99 languages: the default on a GPU"),
    "turbo": Known(
        "speech", "mobiuslabsgmbh/faster-whisper-large-v3-turbo", 1620, "99 languages: nearly as accurate, faster"
    ),
    "pocketsphinx": Known("speech", "", 37, "English: the last resort", package="pocketsphinx", memory_mb=101),
    "wordllama": Known("embedding", "", 33, "256 dimensions: the default", package="wordllama", memory_mb=114),
    "bge-m3": Known(
        "embedding",
        "BAAI/bge-m3",
        2290,
        "1024 dimensions, 100 languages; also reranks",
        setting="EARSHOT_EMBEDDER__MODEL",
    ),
    "bge-reranker-v2-m3": Known(
        "reranking", "BAAI/bge-reranker-v2-m3", 2290, "100 languages", setting="EARSHOT_RERANKER__MODEL"
    ),
    "community-1": Known(
        "diarization",
        "pyannote/speaker-diarization-community-1",
        33,
        "any language; gated: needs HF_TOKEN",
        setting="EARSHOT_DIARIZER__MODEL",
    ),
}


def by_name(name: str) -> Known:
    """The model of a short name or of a repository; of one that is not in the list it is a speech model's.

    Raises:
        Permanent: code ``unknown_model``.
    """
    if name in KNOWN:
        return KNOWN[name]
    by_repository = next((known for known in KNOWN.values() if known.repository == name), None)
    if by_repository is not None:
        return by_repository
    if name.count("/") == 1 and not name.startswith(("/", ".")):
        return Known("speech", name, 0, "")
    raise Permanent(
        f"There is no model {name!r}.",
        next_step=f"Known are {', '.join(KNOWN)}; any other for speech by owner/name on the hub, or by its folder.",
        code="unknown_model",
    )


def complete(folder: Path, kind: Kind) -> bool:
    """Whether a folder has what the engines of a kind load."""
    if kind == "diarization":
        return (folder / "config.yaml").is_file()
    if kind == "speech":
        return all((folder / name).is_file() for name in NEEDED)
    return _has_weights(folder)


def _has_weights(folder: Path) -> bool:
    weights = any(file.suffix in {".safetensors", ".bin"} for file in folder.glob("*"))
    return weights and (folder / "config.json").is_file() and (folder / "tokenizer.json").is_file()


def memory_mb(known: Known) -> int:
    """Of a process that works with it.

    Whisper with int8 weights: half of the float16 file, and working memory. The constant fits both figures of
    faster-whisper's README: small on a CPU 1477 MB, large-v2 on a GPU 2926 MB. What lies in a package was measured. The
    others are an estimate: the weights as they lie on disk, and as much again as Whisper for the work.
    """
    if known.memory_mb:
        return known.memory_mb
    return (known.disk_mb // 2 if known.kind == "speech" else known.disk_mb) + 1300


def size(megabytes: int) -> str:
    """As a person reads it."""
    return f"{megabytes} MB" if megabytes < 1000 else f"{megabytes / 1000:.1f} GB"
