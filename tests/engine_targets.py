"""Speech engines that do as they are told, in real engine processes; and one as a third party would write it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from earshot.kernel.errors import EngineRejected, Misconfigured
from earshot.kernel.events import Engine
from earshot.kernel.ports import Recognized
from earshot.kernel.words import spread


class Told:
    """Says ``name:`` and the clip's bytes. What goes wrong is said by files in ``folder``, read at each call.

    ``<name>.load``: ``refuse``, ``crash`` or ``memory`` when it is loaded. ``<name>.hear``: ``memory 2`` runs out of
    memory with more than two clips, ``crash b`` dies of a batch with the clip ``b``, ``once``, ``hang``, ``reject b``.
    ``<name>.log``: the sizes of the batches it was given, and ``load`` for each start.
    """

    def __init__(self, name: str, folder: str) -> None:
        self._name, self._folder = name, Path(folder)
        self._log("load")
        match self._told("load"):
            case ["refuse"]:
                raise Misconfigured(f"{name} cannot be loaded.", next_step="Repair it.")
            case ["crash"]:
                os.kill(os.getpid(), signal.SIGKILL)
            case ["memory"]:
                raise RuntimeError("CUDA failed with error out of memory")
        self.engine = Engine(name=name, model="m", digest=name * 3, device="cpu")
        self.options = {"of": name}

    def recognize(self, clips):
        if clips[0].flac.startswith(b"fLaC"):  # the warm-up's
            self._log("warm")
            return [Recognized("", [], "", self.engine)]
        self._log(str(len(clips)))
        self._suffer([clip.flac.decode() for clip in clips])
        return [self._heard(clip) for clip in clips]

    def _suffer(self, texts):
        match self._told("hear"):
            case ["memory", most] if len(texts) > int(most):
                raise RuntimeError("CUDA failed with error out of memory")
            case ["crash", text] if text in texts or text == "all":
                os.kill(os.getpid(), signal.SIGKILL)
            case ["once"]:
                (self._folder / f"{self._name}.hear").unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            case ["hang"]:
                time.sleep(600)
            case ["reject", text] if text in texts:
                raise EngineRejected(f"{self._name} does not take {text}.")

    def _heard(self, clip):
        text = f"{self._name}:{clip.flac.decode()}"
        note = "Declared as Klingon." if clip.language == "tlh" else ""
        engine = self.engine.model_copy(update={"degraded": bool(note), "reason": note})
        return Recognized(text, spread(text, clip.start_ms, clip.end_ms), clip.language or "en", engine)

    def _told(self, when):
        file = self._folder / f"{self._name}.{when}"
        return file.read_text().split() if file.exists() else []

    def _log(self, what):
        with (self._folder / f"{self._name}.log").open("a") as file:
            file.write(what + "\n")


class Parakeet:
    """What `docs/engines.md` describes: one class in one file of somebody else's."""

    def __init__(self, device: str, model_dir: str | None) -> None:
        self.engine = Engine(name="parakeet", model="tdt-0.6b", digest="", device=device)
        self.options = {"model_dir": model_dir}

    def recognize(self, clips):
        return [Recognized("polly", spread("polly", c.start_ms, c.end_ms), "en", self.engine) for c in clips]
