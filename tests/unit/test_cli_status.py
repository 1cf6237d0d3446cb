"""What `earshot status` says of who does the work."""

from __future__ import annotations

from earshot.cli.remote import _engines


def test_each_engine_and_model_at_work_has_a_line():
    engine = {"name": "faster-whisper", "model": "base", "device": "cpu", "degraded": False}
    said = [
        {"stage": "embedder", "state": "running", "model": "wordllama-l2"},
        {"stage": "transcriber", "state": "running", "engine": engine, "chain": []},
        {"stage": "transcriber", "state": "paused", "chain": []},
    ]
    assert list(_engines(said)) == ["embedder     wordllama-l2", "transcriber  faster-whisper base on cpu"]
