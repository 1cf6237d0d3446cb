"""What `earshot status` says of who does the work."""

from __future__ import annotations

from earshot.cli.remote import _engines, _stages, _wrong


def test_each_engine_and_model_at_work_has_a_line():
    engine = {"name": "faster-whisper", "model": "base", "device": "cpu", "degraded": False}
    said = [
        {"stage": "embedder", "state": "running", "model": "wordllama-l2"},
        {"stage": "transcriber", "state": "running", "engine": engine, "chain": []},
        {"stage": "transcriber", "state": "paused", "chain": []},
    ]
    assert list(_engines(said)) == ["embedder     wordllama-l2", "transcriber  faster-whisper base on cpu"]


def test_each_stage_has_a_line_with_what_waits_for_it_and_what_is_wrong_is_said_with_the_next_step():
    well = {"ok": True, "detail": "", "next_step": "", "lag": 0}
    paused = {"ok": False, "detail": "Weaviate is gone. Start it.", "next_step": "", "lag": 120}
    gone = {"ok": False, "detail": "No sign of life.", "next_step": "Start it: earshot worker tracker", "lag": None}
    down = {"ok": False, "detail": "Weaviate is gone.", "next_step": "Start it.", "lag": None}
    stages = {"segmenter": well, "indexer": paused, "tracker": gone}
    assert list(_stages(stages)) == [
        "segmenter    running, 0 behind",
        "indexer      paused, 120 behind",
        "tracker      gone",
    ]
    assert list(_wrong({"dependencies": {"vectors": down, "broker": well}, "stages": stages})) == [
        "vectors: Weaviate is gone. Start it.",
        "indexer: Weaviate is gone. Start it.",
        "tracker: No sign of life. Start it: earshot worker tracker",
    ]
