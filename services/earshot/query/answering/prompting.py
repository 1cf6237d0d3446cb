"""What a model is sent: a versioned prompt, excerpts as data that cannot pass for anything else, and the question."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from earshot.kernel.errors import Misconfigured
from earshot.kernel.ports.answers import ChatMessage
from earshot.query.answering.evidence import Evidence

PROMPTS = Path(__file__).parents[1] / "prompts"
_NAME = re.compile(r"[a-z]+-\d{1,4}")
_ROLE = re.compile(r"\b(system|assistant|user|human|developer|tool|function|ipython)(\s*):", re.IGNORECASE)
_BRACKETS = str.maketrans({"[": "(", "]": ")", "{": "(", "}": ")", "<": "(", ">": ")", "`": "'", "#": "", "|": "/"})
"""What role, tool and closing markers of any model are written with, in characters that none of them uses."""


@dataclass(frozen=True)
class Prompt:
    """A version of a prompt. ``hash`` tells whether a file was changed without a new name."""

    name: str
    text: str
    hash: str


@lru_cache(maxsize=16)
def prompt(name: str) -> Prompt:
    """The prompt of a file in ``prompts/``. Raises ``Misconfigured`` when there is none."""
    path = PROMPTS / f"{name}.md"
    if not _NAME.fullmatch(name) or not path.is_file():
        known = ", ".join(sorted(file.stem for file in PROMPTS.glob("*.md")))
        raise Misconfigured(f"There is no prompt {name!r}.", next_step=f"Choose one of: {known}.")
    data = path.read_bytes()
    return Prompt(name, data.decode(), hashlib.sha256(data).hexdigest()[:16])


def choose(name: str, other: str, share: float, key: str) -> Prompt:
    """One of two prompts: ``other`` for this share of the keys, and for one key always the same."""
    if not other or share <= 0:
        return prompt(name)
    place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") / 2**32
    return prompt(other if place < share else name)


def plain(text: str) -> str:
    """A text as one line without anything that a model could take for structure.

    Brackets become others, so no citation, tag or template marker is left; "System:" becomes "System -".
    """
    visible = "".join(" " if unicodedata.category(letter)[0] in "CZ" else letter for letter in text)
    return _ROLE.sub(r"\1\2 -", " ".join(visible.translate(_BRACKETS).split()))


def messages(system: Prompt, question: str, evidence: Sequence[Evidence]) -> list[ChatMessage]:
    """The request: the prompt alone has the system's voice; excerpts and question are one message of the user's."""
    excerpts = "\n".join(excerpt(each) for each in evidence)
    said = f"<excerpts>\n{excerpts}\n</excerpts>\n\n<question>{plain(question)}</question>"
    return [ChatMessage("system", system.text), ChatMessage("user", said)]


def excerpt(each: Evidence) -> str:
    """One excerpt as data: what comes from a recording is made plain, attribute by attribute."""
    recorded = each.recording.recorded_at
    about = {
        "number": str(each.number),
        "recording": each.recording.title or "untitled",
        "recorded": recorded.date().isoformat() if recorded else "unknown",
        "at": clock(each.passage.start_ms),
    }
    attributes = " ".join(f'{name}="{plain(value).replace(chr(34), chr(39))}"' for name, value in about.items())
    lines = [f"{plain(speaker)} — {plain(said)}" if speaker else plain(said) for speaker, said in each.turns]
    return f"<excerpt {attributes}>\n" + "\n".join(lines) + "\n</excerpt>"


def conversation(system: Prompt, turns: Sequence[tuple[str, str]], question: str) -> list[ChatMessage]:
    """The request to rewrite a question: the conversation is data as well."""
    told = "\n".join(f"<asked>{plain(asked)}</asked>\n<answered>{plain(answer)}</answered>" for asked, answer in turns)
    return [
        ChatMessage("system", system.text),
        ChatMessage("user", f"<conversation>\n{told}\n</conversation>\n\n<question>{plain(question)}</question>"),
    ]


def clock(ms: int) -> str:
    """``m:ss`` or ``h:mm:ss``."""
    seconds = ms // 1000
    minutes, hours = seconds // 60 % 60, seconds // 3600
    return f"{hours}:{minutes:02}:{seconds % 60:02}" if hours else f"{minutes}:{seconds % 60:02}"
