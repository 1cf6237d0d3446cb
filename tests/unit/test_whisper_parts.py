"""The parts of the Whisper engine that need no model: windows, what is made ahead, prompts, doubts, words."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import pytest

from earshot.adapters.whisper_batch import MAX_PROMPT, TEMPERATURES, BatchDecoder, Hypothesis, Wanted, prompt
from earshot.adapters.whisper_windows import EARLIEST, SHORTEST, WINDOW, Window, cuts, one_ahead, windows
from earshot.adapters.whisper_words import timed
from tests.audio import RATE

PLAIN = Wanted("en", "transcribe", "", "")


# --- windows ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, WINDOW - 1, WINDOW, WINDOW + 1, 2 * EARLIEST + 1, 4 * WINDOW + 7])
def test_windows_cover_a_clip_without_a_gap_and_none_is_longer_than_the_model_hears(count):
    found = cuts(np.zeros(count, np.int16))
    assert [start for start, _ in found] == [0, *(end for _, end in found[:-1])]
    assert found[-1][1] == count
    assert all(end - start <= WINDOW for start, end in found)
    assert all(end - start >= EARLIEST for start, end in found[:-1])


def test_what_is_too_long_is_cut_where_it_is_quietest():
    loud = np.random.default_rng(0).integers(-9000, 9000, 45 * RATE).astype(np.int16)
    loud[27 * RATE : 27 * RATE + RATE // 4] //= 100
    ((_, first), _) = cuts(loud)
    assert 27 * RATE < first < 27 * RATE + RATE // 4


def test_a_window_says_where_it_lies_and_a_moment_is_none():
    def features(samples):
        return np.ones((80, len(samples) // 160 + 1), np.float32)

    quiet = np.zeros(40 * RATE, np.int16)
    first, second = windows(7, quiet, features)
    assert (first.clip, first.start_s, second.end_s) == (7, 0.0, 40.0)
    assert first.end_s == second.start_s
    assert first.features.shape == second.features.shape == (80, 3000)
    assert second.frames == int((second.end_s - second.start_s) * 100)
    assert not second.features[:, second.frames :].any()
    assert list(windows(0, quiet[: SHORTEST - 1], features)) == []


# --- ahead ------------------------------------------------------------------------------------------------------


def test_the_next_is_made_while_one_is_used_and_never_the_one_after():
    made, begun = [], [threading.Event() for _ in range(5)]

    def make(item):
        made.append(item)
        begun[item].set()
        return item * 10

    for place, value in enumerate(one_ahead(make, range(5))):
        assert value == place * 10
        if place < 4:
            assert begun[place + 1].wait(10), "the next was not made while this one was used"
        assert len(made) <= place + 2


def test_an_error_comes_in_its_turn():
    def make(item):
        return 1 // item

    results = one_ahead(make, [1, 0, 1])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


# --- prompts ----------------------------------------------------------------------------------------------------


class Tokenizer:
    """A token for each character."""

    sot_prev, sot_sequence, no_timestamps, eot = 900, [901, 902, 903], 904, 899

    def encode(self, text):
        return [ord(character) for character in text]


def test_a_prompt_comes_before_the_hotwords_and_both_before_the_task():
    tokens = prompt(Tokenizer(), Wanted("en", "transcribe", " b c ", "a"))
    assert tokens == [900, *map(ord, " a b c"), 901, 902, 903, 904]
    assert prompt(Tokenizer(), PLAIN) == [901, 902, 903, 904]


def test_words_to_expect_never_take_more_than_half_of_what_the_model_remembers():
    tokens = prompt(Tokenizer(), Wanted("en", "transcribe", "x" * 1000, "y" * 1000))
    assert tokens[1:-4] == [ord("x")] * MAX_PROMPT


# --- doubts -----------------------------------------------------------------------------------------------------


@dataclass
class Result:
    """What CTranslate2 gives back for one window."""

    sequences_ids: list[list[int]]
    scores: list[float]
    no_speech_prob: float = 0.0


class Model:
    """A model whose answers are prepared: for each window (its number is its features) a list, one a temperature."""

    def __init__(self, answers: list[list[tuple[float, float]]]) -> None:
        self.answers, self.model, self.calls = answers, self, list[list[int]]()

    def encode(self, features):
        return [int(window[0, 0]) for window in features]

    def generate(self, encoded, _prompts, **how):
        self.calls.append(encoded)
        tries = [TEMPERATURES.index(how.get("sampling_temperature", 0.0)) for _ in encoded]
        told = [self.answers[window][at] for window, at in zip(encoded, tries, strict=True)]
        return [Result([[97 + at]], [score], silent) for (score, silent), at in zip(told, tries, strict=True)]


class Speaking(Tokenizer):
    """Enough of a tokenizer to read the answers."""

    transcribe = translate = sot = sot_lm = no_speech = 0
    non_speech_tokens = ()

    def decode(self, tokens):
        return "".join(map(chr, tokens))


def chosen(answers: list[list[tuple[float, float]]]) -> tuple[list[str], list[list[int]]]:
    """The texts that are chosen, and which windows were decoded in each call. ``a`` is the text of temperature 0."""
    model = Model(answers)
    some = [Window(0, 0, 1, np.full((80, 3000), place, np.float32), 100) for place in range(len(answers))]
    found = BatchDecoder(model)._choose(some, list(range(len(some))), [901], Speaking())
    return [hypothesis.text for hypothesis in found], model.calls


SURE, UNSURE, WORSE, SILENT = (-0.4, 0.0), (-3.0, 0.0), (-4.0, 0.0), (-4.0, 0.9)


def test_only_what_is_doubtful_is_decoded_again():
    texts, calls = chosen([[SURE], [UNSURE, SURE], [SURE], [UNSURE, UNSURE, SURE]])
    assert texts == ["a", "b", "a", "c"]
    assert calls == [[0, 1, 2, 3], [1, 3], [3]]


def test_of_what_stays_doubtful_the_likeliest_is_taken():
    texts, calls = chosen([[WORSE, WORSE, UNSURE, WORSE, WORSE, WORSE]])
    assert texts == ["c"]
    assert len(calls) == len(TEMPERATURES)


def test_silence_is_no_text_and_is_not_decoded_again():
    assert chosen([[SILENT], [SURE]]) == (["", "a"], [[0, 1]])


def test_a_text_that_repeats_itself_is_doubtful():
    assert Hypothesis([], "la la", -0.1, 0.0, 3.0).doubtful
    assert not Hypothesis([], "la la", -0.1, 0.0, 2.0).doubtful


# --- words ------------------------------------------------------------------------------------------------------


def piece(word, start, end):
    return {"word": word, "tokens": [1], "start": start, "end": end, "probability": 0.9}


def test_punctuation_goes_to_its_word_and_a_pause_to_none():
    """The first word, and the one that begins the next sentence, lose the pause the alignment gave them."""
    pieces = [piece(" So", 0.0, 3.0), piece(",", 3.0, 3.2), piece(" ask", 3.2, 3.6), piece(" not", 3.6, 4.0)]
    pieces += [piece(".", 4.0, 4.1), piece(" Ask", 4.1, 8.0), piece(" what", 8.0, 8.4)]
    words = timed(pieces, 10.0)
    assert [word.word for word in words] == [" So,", " ask", " not.", " Ask", " what"]
    assert words[0].start > 12.0
    assert words[3].start > 17.0
    assert [round(word.end, 3) for word in words] == [13.0, 13.6, 14.0, 18.0, 18.4]
