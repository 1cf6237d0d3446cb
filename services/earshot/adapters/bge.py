"""What the models of FlagEmbedding share: where they lie, where they run, how they say that they cannot."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import structlog

from earshot.adapters import hub
from earshot.adapters.hub import Parcel
from earshot.adapters.known_models import NOT_NEEDED
from earshot.adapters.packing import pack
from earshot.kernel.errors import Misconfigured, Unavailable

MAX_TOKENS = 512
"""Of one text, what is past them is not read: FlagEmbedding's own default."""
MAX_CHARACTERS = 16 * MAX_TOKENS
"""What is given to the tokenizer of one text: more than its tokens cover in any script."""
BATCH_TOKENS = 16_384
"""Padded tokens in one pass of a model, 32 of the longest texts: what 8 GB of GPU memory takes in half precision."""
INSTALL = "Install it with `pip install 'earshot[embedding]'`."
WEIGHTS = {".safetensors", ".bin", ".pt"}
_NEEDED = ("config.json", "tokenizer.json")

T = TypeVar("T")
Tokens = Mapping[str, list[int]]
"""One text, or one pair, as the tokenizer makes it: ``input_ids``, ``attention_mask``, …"""


@dataclass(frozen=True)
class Device:
    """Where a model runs. ``reason`` says why it is not where it was asked to be; then it is degraded."""

    name: str
    reason: str = ""

    @property
    def half(self) -> bool:
        """Whether half precision pays: on every GPU, never on a CPU."""
        return self.name != "cpu"


def device(asked: str, variable: str) -> Device:
    """The device that is asked for if it is there; empty: the first GPU, else the CPU.

    Args:
        asked: ``cuda:0``, ``cpu``, ``mps``, …
        variable: the setting that asks, for the reason.
    """
    import torch  # type: ignore[import-not-found,unused-ignore]  # comes with FlagEmbedding

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if not asked:
        return Device("cuda:0" if there["cuda"] else "cpu")
    if there.get(asked.partition(":")[0], False):
        return Device(asked)
    reason = f"{variable} asks for {asked}, and torch finds none here; the CPU does the work, many times slower."
    structlog.get_logger().warning("a model runs on the CPU", reason=reason)
    return Device("cpu", reason)


def tokenized(tokenizer: Any, texts: Sequence[str], others: Sequence[str] | None = None) -> list[Tokens]:
    """Each text, or each pair of texts, as tokens: cut to the model's length, not padded."""
    if not texts:
        return []
    cut = [[text[:MAX_CHARACTERS] for text in each] for each in (texts, others) if each is not None]
    columns = tokenizer(*cut, truncation=True, max_length=MAX_TOKENS)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def padded(tokenizer: Any, batch: Sequence[Tokens], device: Device) -> Any:
    """A batch as tensors of one length, on the device."""
    return tokenizer.pad(
        {name: [each[name] for each in batch] for name in batch[0]}, padding=True, return_tensors="pt"
    ).to(device.name)


def passes(inputs: Sequence[Tokens], run: Callable[[list[Tokens]], list[T]]) -> Iterator[tuple[int, T]]:
    """What ``run`` makes of each input, with the input's place; batches within the budget of tokens.

    FlagEmbedding's own ``encode`` is made for one call over a corpus: it runs its first batch twice, to see whether it
    fits into memory. Raises ``Unavailable`` when the device fails.
    """
    for places in pack([len(each["input_ids"]) for each in inputs], BATCH_TOKENS):
        yield from zip(places, _fitting([inputs[place] for place in places], run), strict=True)


def _fitting(batch: list[Tokens], run: Callable[[list[Tokens]], list[T]]) -> list[T]:
    """The batch in one pass, or, where memory is short, in halves."""
    import torch

    try:
        with torch.inference_mode():
            return run(batch)
    except RuntimeError as error:  # out of memory is one, with another text on each device
        if len(batch) == 1:
            raise Unavailable("engine", f"The model failed on a text of its length: {error}") from error
        cause = str(error).splitlines()[0]
    structlog.get_logger().warning("a batch is halved", texts=len(batch), cause=cause)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # what the failed pass held
    half = len(batch) // 2
    return _fitting(batch[:half], run) + _fitting(batch[half:], run)


def load(name: str, make: Callable[[], T]) -> T:
    """Call what loads a model; what it raises becomes ours.

    Raises:
        Misconfigured: FlagEmbedding is not installed, or there is no model that loads.
    """
    # Read when huggingface_hub is imported: what is needed lies in a folder.
    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_PROGRESS_BARS="1")
    try:
        from transformers.utils.logging import disable_progress_bar  # type: ignore[import-not-found,unused-ignore]

        disable_progress_bar()  # type: ignore[no-untyped-call,unused-ignore]
        return make()
    except ImportError as error:
        raise Misconfigured(f"{name} needs FlagEmbedding: {error}.", next_step=INSTALL) from error
    except Exception as error:  # a broken file ends in an error of whichever library reads it
        cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise Misconfigured(f"The folder of {name} holds no model that loads: {cause}") from error


def fetched(repository: str, cache: Path | None, setting: str) -> Path:
    """The folder of a model of the hub: in the cache, else downloaded into it.

    Args:
        repository: ``owner/name``.
        cache: the cache's folder; ``None``: as Hugging Face's own settings say.
        setting: the variable that names the model, for the next step.

    Raises:
        Misconfigured: the hub's client is not installed.
        Unavailable: it is not in the cache, and the hub does not answer or refuses.
    """
    try:
        from huggingface_hub import constants
    except ImportError as error:
        raise Misconfigured(f"{repository} needs FlagEmbedding: {error}.", next_step=INSTALL) from error

    parcel, endpoint = Parcel(repository, ignore=NOT_NEEDED, cache=cache), str(constants.ENDPOINT)
    folder = hub.cached(parcel)
    if folder is not None and _complete(folder):
        return folder
    if constants.HF_HUB_OFFLINE or not hub.answers(endpoint):
        raise Unavailable(
            "engine",
            f"The model {repository} is not on this disk, and the hub {endpoint} does not answer or is switched off.",
            next_step=f"Set {setting} to a folder that has it, or run `earshot models pull` where the hub answers.",
        )
    return hub.download(parcel, endpoint, again="start again")


def _complete(folder: Path) -> bool:
    weights = any(path.suffix in {".safetensors", ".bin"} for path in folder.glob("*"))
    return weights and all((folder / name).is_file() for name in _NEEDED)


def fingerprint(folder: Path) -> str:
    """Eight hex digits that tell one set of weights from another: names, sizes and first MiB of the weight files.

    Raises:
        Misconfigured: there are none.
    """
    digest = hashlib.sha256()
    files = [path for path in sorted(folder.glob("*")) if path.suffix in WEIGHTS]
    if not files:
        raise Misconfigured(f"The folder {folder} holds no model: there are no weights in it.")
    for path in files:
        with path.open("rb") as file:
            digest.update(f"{path.name}:{path.stat().st_size}:".encode() + file.read(1 << 20))
    return digest.hexdigest()[:8]
