"""What a question wants, told by rules: small talk, a count, a list, something we do not do, or an answer. Pure.

English. Whatever no rule knows is a question to be answered from what was said.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from earshot.kernel.question import words_in

Kind = Literal["answer", "count", "list", "greeting", "help", "thanks", "declined"]
Unit = Literal["recordings", "mentions", "speakers"]

RECORDING = (
    r"(?:recording|meeting|call|episode|talk|interview|lecture|file|transcript|conversation|podcast|session|show)s?"
)
_TELLS = """
mention mentions mentioned mentioning discuss discusses discussed discussing cover covers covered contain contains talk
talks talked talking speak speaks spoke spoken about concerning regarding refer refers referred
"""
"""Words that say that something is a matter of a recording."""
_FRAME = f"""
{_TELLS}
say says said are is was were be been being do does did have has had get gets got there that which who in where we i you
they people anyone somebody someone anybody it ever the of a an our my all any anything something with to on include
includes included bring brings brought come comes came up so far total altogether please exactly here recorded library
exist times
"""
"""And what else stands around the matter of a count or a list."""
_TELLING, _FRAMING = frozenset(_TELLS.split()) | {"say", "says", "said"}, frozenset(_FRAME.split())
_GREETING = re.compile(
    r"(?:hi|hello|hey|hiya|good (?:morning|afternoon|evening|day)|greetings|hallo|servus)(?: there| earshot| all)?"
)
_THANKS = re.compile(
    r"(?:ok(?:ay)?[ ,]*)?(?:thanks|thank you|thx|cheers|great|perfect|bye|goodbye|see you)"
    r"(?: (?:so much|very much|a lot|earshot|then))*"
)
_HELP = re.compile(
    r"/?(?:help|commands|usage)(?: me)?|what can (?:you|i) (?:do|ask)(?: here)?|who are you|what are you"
    r"|how does this work"
)
_COUNT = re.compile(
    rf"(?:tell me |say )?(?:how many|(?:what is|whats|give me|count)?\s*(?:the )?number of|count (?:all |the )*)\s*"
    rf"(?:different |other )?(?P<unit>{RECORDING}|times|mentions|people|speakers|persons|participants)\b(?P<rest>.*)"
)
_OFTEN = re.compile(r"how often (?:is|was|were|are|did|do|does|has|have)\b(?P<rest>.*)")
_LIST = re.compile(
    rf"(?:(?:please )?(?:list|show|name|give)(?: me| us)?(?: all| every| the)*|(?:in |on )?(?:which|what)|all|every)\s+"
    rf"(?:of )?(?:the |my |our )?(?:different |other )?(?P<unit>{RECORDING}|people|speakers|persons|participants)\b"
    rf"(?P<rest>.*)"
)
_WHO = re.compile(
    rf"who (?:all |else )?(?P<rest>(?:has |have )?(?:{'|'.join(sorted(set(_TELLS.split()) - {'about'}))})\b.*)"
)
_WHERE = re.compile(rf"\s+(?:in|across|over|from)\s+(?:(?:all|the|any|these|those|my|our)\s+)*{RECORDING}$")
_WORK = re.compile(
    r"(?:(?:please|can you|could you|would you|will you|i want you to|now)\s+)*"
    r"(?:(?:write|compose|generate|create|make|draw|paint|implement|translate|calculate|compute|solve|send|delete|erase|buy"
    r"|install|download)\b|(?:draft|code|program|email|remove|book|order|call|play|sing|execute|run|browse|google)"
    r"\s+(?:me|us|a|an|the|some|my|our|this|that|all|for|him|her|them)\b)"
    r"(?!.*\b(?:summary|overview|list|outline|table|minutes|notes|points|decisions|items|what|who|when|said|quotes?)\b)"
)
"""Work that is asked for; a summary or a list of what was said is an answer."""
_ORDERS = re.compile(
    r"\b(?:ignore|disregard|forget|override)\s+(?:(?:all|any|of|the|my|these)\s+)*(?:previous|prior|above|earlier|your|system)"
    r"\b.{0,30}\b(?:instructions?|prompts?|rules|directions)\b"
    r"|\b(?:reveal|print|show|repeat|output|tell me|what (?:is|are))\b.{0,30}\b(?:system prompt|your (?:prompt|rules)"
    r"|your instructions)\b"
)
_PRESENT = re.compile(
    r"(?:(?:what|how)(?: is| s|s)? the weather\b.*|what time is it(?: now)?"
    r"|what(?: is| s|s)? the (?:time|date)(?: now| today)?"
    r"|(?:what(?: is|'?s)|how much is)? ?-?\d+\s*[-+*/x]\s*\d+)[?. ]*"
)


@dataclass(frozen=True)
class Intent:
    """What a question wants.

    Attributes:
        kind: what is to be done.
        unit: of a count or a list.
        topic: what is to be counted; empty: all there are.
        quoted: whether the topic was in quotation marks: these words, in this order.
        reason: why it is declined.
    """

    kind: Kind
    unit: Unit = "recordings"
    topic: str = ""
    quoted: bool = False
    reason: str = ""


def read(question: str) -> Intent:
    """Tell what a question wants."""
    plain = " ".join(words_in(question.replace("'", "")))
    for pattern, kind in ((_GREETING, "greeting"), (_THANKS, "thanks"), (_HELP, "help")):
        if pattern.fullmatch(plain):
            return Intent(kind)  # type: ignore[arg-type] # the kinds stand three lines above
    if reason := _declined(question, plain):
        return Intent("declined", reason=reason)
    quote = re.search(r"[\"“„«]([^\"“”„«»]{2,})[\"”“»]", question)
    return _counted(plain, quote.group(1) if quote else "") or Intent("answer")


def _declined(question: str, plain: str) -> str:
    """Why a question is outside what is answered here; empty when it is not."""
    if _ORDERS.search(plain):
        return "This asks about my instructions, not about the recordings."
    if _WORK.match(plain):
        return "This asks for work or an action. I only answer questions about what was said in the recordings."
    if _PRESENT.fullmatch(plain) or _PRESENT.fullmatch(question.casefold().strip()):
        return "This is not about the recordings, and I only know what was said in them."
    return ""


def _counted(plain: str, quoted: str) -> Intent | None:
    """A count or a list; ``None`` for any other question."""
    kind: Kind = "count"
    match = _COUNT.fullmatch(plain)
    unit = _unit(match["unit"]) if match else "mentions"
    if match is None:
        match = _OFTEN.fullmatch(plain)
    if match is None:
        kind, match = "list", _LIST.fullmatch(plain)
        unit = _unit(match["unit"]) if match else "speakers"
    if match is None:
        match = _WHO.fullmatch(plain)
    if match is None:
        return None
    topic, tells = _topic(match["rest"])
    if unit == "mentions" and not (topic or quoted):
        return None
    if not (quoted or topic == "" or tells):
        return None  # "which meeting was the longest", "what talk did Ada give": none that counting answers
    return Intent(kind, unit, quoted or topic, bool(quoted))


def _unit(said: str) -> Unit:
    if said in {"times", "mentions"}:
        return "mentions"
    return "recordings" if re.fullmatch(RECORDING, said) else "speakers"


def _topic(rest: str) -> tuple[str, bool]:
    """What is left of a question once its frame is taken away, and whether the frame says that it is a matter."""
    words = _WHERE.sub("", f" {rest.strip()}").split()
    frame = []
    while words and words[0] in _FRAMING:
        frame.append(words.pop(0))
    while words and words[-1] in _FRAMING:
        frame.append(words.pop())
    return " ".join(words), bool(_TELLING & set(frame))
