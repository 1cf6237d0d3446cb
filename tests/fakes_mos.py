"""A MOS predictor that plays a script, and a network of DNSMOS's shape in ONNX, which is protobuf, written by hand."""

from __future__ import annotations

import struct
from pathlib import Path


class FakeMos:
    """A :class:`~earshot.kernel.ports.MosPredictor`; ``None`` in the script is a failure."""

    model, device = "fake", "cpu"

    def __init__(self, scores: list[float | None]) -> None:
        self.scores = list(scores)
        self.heard: list[bytes] = []

    async def score(self, flac: bytes) -> float | None:
        self.heard.append(flac)
        return self.scores.pop(0)


def write_network(path: Path, samples: int = 144_160, outputs: int = 3) -> Path:
    """A model ``(1, samples) -> (1, outputs)``: output ``i`` is the mean of ``|x|``, times ``i + 1``."""
    weights = struct.pack(f"<{outputs}f", *(i + 1 for i in range(outputs)))
    loud = _message((1, "input_1"), (2, "loud"), (4, "Abs"))
    axes = _message((1, "axes"), (8, [1]), (20, 7))
    mean = _message((1, "loud"), (2, "mean"), (4, "ReduceMean"), (5, axes))
    times = _message((1, "mean"), (1, "weights"), (2, "Identity:0"), (4, "MatMul"))
    matrix = _message((1, [1, outputs]), (2, 1), (8, "weights"), (9, weights))
    graph = _message(
        (1, loud), (1, mean), (1, times), (2, "dnsmos"), (5, matrix),
        (11, _tensor("input_1", samples)), (12, _tensor("Identity:0", outputs)),
    )  # fmt: skip
    path.write_bytes(_message((1, 8), (7, graph), (8, _message((2, 13)))))
    return path


def _tensor(name: str, width: int) -> bytes:
    dimensions = _message(*((1, _message((1, size))) for size in (1, width)))
    return _message((1, name), (2, _message((1, _message((1, 1), (2, dimensions))))))


def _message(*fields: tuple[int, int | str | bytes | list[int]]) -> bytes:
    """A protobuf message: numbers as varints, lists packed by repetition, the rest by length."""
    out = b""
    for number, value in fields:
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, int):
                out += _varint(number << 3) + _varint(one)
            else:
                data = one.encode() if isinstance(one, str) else one
                out += _varint(number << 3 | 2) + _varint(len(data)) + data
    return out


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
