"""An index keeps its encoder by name, and finds no other one under it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from earshot.adapters.catalog.tables import now
from earshot.adapters.named_encoders import encoder_of, index_for, named, other_wish, wished
from earshot.kernel.errors import Misconfigured
from earshot.kernel.ports.indexes import Index, NewIndex


def index_of(new: NewIndex) -> Index:
    return Index(**vars(new), generation=1, state="serving", created_at=now())


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MODEL", "URL"):
        monkeypatch.delenv(f"EARSHOT_EMBEDDER__{name}", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("name", "dimensions"), [("wordllama", 256), ("wordllama:128", 128), ("wordllama:64", 64)])
async def test_shorter_vectors_are_another_index_of_the_same_model(name: str, dimensions: int) -> None:
    new = index_for(name, named(name))
    assert (new.name, new.encoder) == (f"Passages_wordllama_l2_{dimensions}", name)
    vector = await encoder_of(index_of(new)).encode_query("a heron at the bridge")
    assert len(vector) == dimensions
    assert sum(number * number for number in vector) == pytest.approx(1)


@pytest.mark.parametrize("name", ["wordllama:100", "wordllama:many", "no-such-folder", "remote:small"])
def test_a_name_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(Misconfigured):
        named(name)


def test_vectors_of_another_model_never_go_into_an_index() -> None:
    """The name stands for something else than when the index was made."""
    changed = replace(index_of(index_for("wordllama", named("wordllama"))), encoder="wordllama:128")
    with pytest.raises(Misconfigured, match="Passages_wordllama_l2_128"):
        encoder_of(changed)


def test_only_a_model_that_was_named_contradicts_the_one_that_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    serving = index_of(index_for("wordllama:128", named("wordllama:128")))
    assert other_wish(serving) == ""
    monkeypatch.setenv("EARSHOT_EMBEDDER__MODEL", "wordllama:128")
    assert other_wish(serving) == ""
    monkeypatch.setenv("EARSHOT_EMBEDDER__MODEL", "wordllama")
    assert other_wish(serving) == "wordllama"
    monkeypatch.setenv("EARSHOT_EMBEDDER__URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("EARSHOT_EMBEDDER__MODEL", "small")
    assert (wished(), other_wish(serving)) == ("remote:small", "remote:small")


def test_a_folder_is_the_same_one_for_every_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.setenv("EARSHOT_EMBEDDER__MODEL", "model")
    assert wished() == str((tmp_path / "model").resolve())
