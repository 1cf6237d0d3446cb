"""When a question asks about: "last Tuesday", "in March", "since 3 May". English; pure, and the present is given.

What is found restricts ``recorded_at`` and is shown with the answer. A day or a month that may as well be the matter
of the question ("do we ship on Friday?") counts only in a question about something that was said before: one with a
verb in the past, or with the word for a recording.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
          "december")  # fmt: skip
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
NUMBERS = ("a", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")

_MONTH = "(?:" + "|".join(rf"{name[:3]}(?:{name[3:]})?" if name[3:] else name for name in MONTHS) + r"|sept)\.?"
_WEEKDAY = "(?:" + "|".join(WEEKDAYS) + ")"
_COUNT = r"(?:\d{1,3}|an|one|" + "|".join(NUMBERS) + "|couple of|few)"
_UNIT = r"(?:day|week|month|year)s?"
_YEAR = r"(?:19|20)\d{2}"
_NTH = r"(?:st|nd|rd|th)?"
_POINT = "|".join(
    (
        rf"{_YEAR}-\d{{2}}-\d{{2}}",
        rf"(?:the )?\d{{1,2}}{_NTH}(?: of)? {_MONTH}(?:,? {_YEAR})?",
        rf"{_MONTH} \d{{1,2}}{_NTH}(?!\d)(?:,? {_YEAR})?",
        rf"(?:(?:last|this|past) )?{_MONTH}(?:,? (?:of )?{_YEAR})?",
        r"the day before yesterday|yesterday|today",
        rf"{_COUNT} {_UNIT} ago",
        rf"(?:(?:last|this|past) )?{_WEEKDAY}",
        r"(?:the )?(?:last|previous|this|past) (?:week|month|year)",
        _YEAR,
    )
)
_SPAN = rf"(?:(?:in|over|during|within) )?(?:the )?(?:last|past) (?P<count>{_COUNT}) (?P<unit>{_UNIT})"
_EXPRESSION = re.compile(
    rf"\b(?:(?:between (?P<low>{_POINT}) and|from (?P<first>{_POINT}) (?:to|until|till|through)) (?P<high>{_POINT})"
    rf"|{_SPAN}"
    rf"|(?P<how>since|after|before|until|till|up to|from|in|on|over|within|during|of)? ?"
    rf"(?P<point>{_POINT})(?:'s)?)\b(?!-)",
    re.IGNORECASE,
)
_PAST = re.compile(
    r"\b(?:did|was|were|had|said|told|spoke|talked|discussed|mentioned|decided|agreed|asked|recorded|happened|came up|"
    r"recordings?|meetings?|calls?|episodes?|talks?|interviews?|lectures?|transcripts?|conversations?)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Period:
    """A stretch of time, half-open; ``None`` is unbounded. ``text`` are the words that say it."""

    text: str
    start: datetime | None
    end: datetime | None


Days = tuple[date, date]
"""Half-open."""


def find(question: str, now: datetime) -> tuple[Period | None, str]:
    """The first period that a question names, and the question without it.

    Args:
        question: in plain words.
        now: with a time zone, in which days begin.
    """
    for match in _EXPRESSION.finditer(question):
        try:
            bounds = _bounds(match, question, now.date())
        except (ValueError, OverflowError):  # 31 February, a thousand years ago
            continue
        if bounds is not None:
            start, end = (None if day is None else _midnight(day, now) for day in bounds)
            rest = re.sub(r"\s+", " ", question[: match.start()] + " " + question[match.end() :])
            rest = re.sub(r"\s+([?.!,;])", r"\1", rest).strip(" ,;")
            return Period(match.group().strip(), start, end), rest
    return None, question


def _midnight(day: date, now: datetime) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=now.tzinfo)


def _bounds(match: re.Match[str], question: str, today: date) -> tuple[date | None, date | None] | None:
    """First day, and the day after the last; ``None`` when the words are not about a time of recording."""
    if match["high"]:
        first, last = _days(match["low"] or match["first"], today), _days(match["high"], today)
        return (first[0], last[1]) if first[0] < last[1] else None
    if match["count"]:
        return _back(today, match["count"], match["unit"]), today + timedelta(days=1)
    how, point = (match["how"] or "").lower(), match["point"]
    if not _meant(how, point.lower(), question):
        return None
    start, end = _days(point, today)
    bounds: dict[str, tuple[date | None, date | None]] = {
        "since": (start, None),
        "after": (end, None),
        "before": (None, start),
        "until": (None, end),
        "till": (None, end),
        "up to": (None, end),
    }
    if how == "from" and re.match(r"\s+(?:on|onwards?)\b", question[match.end() :], re.IGNORECASE):
        return start, None
    return bounds.get(how, (start, end))


def _meant(how: str, point: str, question: str) -> bool:
    """Whether a point is one in the time of recordings, rather than the matter of the question."""
    bounded = how in {"since", "after", "before", "until", "till", "up to"}
    if re.fullmatch(_YEAR, point):
        return bool(how) and (bounded or bool(_PAST.search(question)))
    weak = re.fullmatch(rf"{_MONTH}|{_WEEKDAY}|.*\d.*", point)
    if re.fullmatch(rf"{_MONTH}|{_WEEKDAY}", point) and not how:
        return False
    return not weak or point.endswith("ago") or (bounded and point != "may") or bool(_PAST.search(question))


def _days(point: str, today: date) -> Days:
    """The days a point names. Raises ``ValueError`` for a date that does not exist."""
    said = re.sub(r"\s+", " ", point.lower().replace(",", " ").replace(".", "")).removeprefix("the ").strip()
    for pattern, read in _READERS:
        if match := re.fullmatch(pattern, said):
            return read(match, today)
    raise ValueError(point)


def _one(day: date) -> Days:
    return day, day + timedelta(days=1)


def _iso(match: re.Match[str], _today: date) -> Days:
    return _one(date.fromisoformat(match.group()))


def _dated(match: re.Match[str], today: date) -> Days:
    """A day of a month; without a year the latest that is not in the future."""
    day, month = int(match["day"]), _month_number(match["month"])
    if match["year"]:
        return _one(date(int(match["year"]), month, day))
    years = (today.year, today.year - 1, today.year - 2, today.year - 3, today.year - 4)  # 29 February needs them
    for year in years:
        try:
            if (found := date(year, month, day)) <= today:
                return _one(found)
        except ValueError:
            continue
    raise ValueError(match.group())


def _month(match: re.Match[str], today: date) -> Days:
    month = _month_number(match["month"])
    if match["year"]:
        return _whole_month(int(match["year"]), month)
    if match["which"] == "this":
        return _whole_month(today.year, month)
    latest = today.year if month <= today.month else today.year - 1
    if match["which"] and month == today.month:
        latest -= 1
    return _whole_month(latest, month)


def _weekday(match: re.Match[str], today: date) -> Days:
    wanted = WEEKDAYS.index(match["day"])
    if match["which"] == "this":
        return _one(today + timedelta(days=wanted - today.weekday()))
    return _one(today - timedelta(days=(today.weekday() - wanted - 1) % 7 + 1))


def _named(match: re.Match[str], today: date) -> Days:
    back = {"today": 0, "yesterday": 1, "day before yesterday": 2}[match.group()]
    return _one(today - timedelta(days=back))


def _ago(match: re.Match[str], today: date) -> Days:
    """A day; of weeks, months and years ago the whole week, month or year."""
    then, unit = _back(today, match["count"], match["unit"]), match["unit"].rstrip("s")
    return _one(then) if unit == "day" else _whole(unit, then)


def _period(match: re.Match[str], today: date) -> Days:
    unit = match["unit"]
    if match["which"] == "this":
        return _whole(unit, today)
    if match["which"] == "past":
        return _back(today, "a", unit), today + timedelta(days=1)
    return _whole(unit, _whole(unit, today)[0] - timedelta(days=1))


def _year(match: re.Match[str], _today: date) -> Days:
    return date(int(match.group()), 1, 1), date(int(match.group()) + 1, 1, 1)


_READERS: tuple[tuple[str, Callable[[re.Match[str], date], Days]], ...] = (
    (rf"{_YEAR}-\d{{2}}-\d{{2}}", _iso),
    (rf"(?P<day>\d{{1,2}}){_NTH}(?: of)? (?P<month>{_MONTH})(?: (?P<year>{_YEAR}))?", _dated),
    (rf"(?P<month>{_MONTH}) (?P<day>\d{{1,2}}){_NTH}(?: (?P<year>{_YEAR}))?", _dated),
    (rf"(?:(?P<which>last|this|past) )?(?P<month>{_MONTH})(?: (?:of )?(?P<year>{_YEAR}))?", _month),
    (r"day before yesterday|yesterday|today", _named),
    (rf"(?P<count>{_COUNT}) (?P<unit>{_UNIT}) ago", _ago),
    (rf"(?:(?P<which>last|this|past) )?(?P<day>{_WEEKDAY})", _weekday),
    (r"(?P<which>last|previous|this|past) (?P<unit>week|month|year)", _period),
    (_YEAR, _year),
)


def _month_number(name: str) -> int:
    return next(at for at, month in enumerate(MONTHS, 1) if month.startswith(name.lower()[:3]))


def _whole_month(year: int, month: int) -> Days:
    return date(year, month, 1), date(year + month // 12, month % 12 + 1, 1)


def _whole(unit: str, day: date) -> Days:
    """The week (from Monday), month or year that a day is in."""
    if unit == "week":
        monday = day - timedelta(days=day.weekday())
        return monday, monday + timedelta(days=7)
    return _whole_month(day.year, day.month) if unit == "month" else (date(day.year, 1, 1), date(day.year + 1, 1, 1))


def _back(today: date, count: str, unit: str) -> date:
    """So many days, weeks, months or years before today."""
    words = {"an": 1, "one": 1, "couple of": 2, "few": 3} | {name: at for at, name in enumerate(NUMBERS, 1)}
    number = words.get(count.lower()) or int(count)
    kind = unit.lower().rstrip("s")
    if kind in {"day", "week"}:
        return today - timedelta(days=number * (7 if kind == "week" else 1))
    months = today.year * 12 + today.month - 1 - number * (12 if kind == "year" else 1)
    year, month = divmod(months, 12)
    last = (_whole_month(year, month + 1)[1] - timedelta(days=1)).day
    return date(year, month + 1, min(today.day, last))
