"""What a broker does otherwise than ``earshot topics create`` would have it."""

from __future__ import annotations

from earshot.cli.topics import Difference, differences
from earshot.kernel.settings import Settings
from earshot.kernel.topics import AUDIO_TRANSCRIPTS, AUDIO_UPLOADED, DAY_MS, all_topics
from earshot.processes import topic_configurations
from tests.fakes_log import FakeLog

SETTINGS = Settings(_env_file=None, topic_prefix="p-")


def test_topics_are_kept_as_long_as_an_erasure_promises() -> None:
    kept = {topic.name: topic.configuration for topic in all_topics()}
    compacted = {"cleanup.policy": "compact", "max.compaction.lag.ms": str(7 * DAY_MS)}
    assert compacted.items() <= kept[AUDIO_TRANSCRIPTS.name].items()
    others = {name: settings for name, settings in kept.items() if name != AUDIO_TRANSCRIPTS.name}
    assert {settings["cleanup.policy"] for settings in others.values()} == {"delete"}
    for name, settings in others.items():
        days = 30 if name.endswith(".dlq") else 7
        assert (settings["retention.ms"], settings["segment.ms"]) == (str(days * DAY_MS), str(DAY_MS))


async def test_every_difference_is_named_and_what_a_broker_does_not_have_is_none() -> None:
    log = FakeLog()
    wanted = topic_configurations(SETTINGS)
    await log.create(wanted, 1)
    assert await differences(log, SETTINGS) == []
    uploaded, transcripts = f"p-{AUDIO_UPLOADED.name}", f"p-{AUDIO_TRANSCRIPTS.name}"
    log.settings[uploaded]["retention.ms"] = "1000"
    log.settings[transcripts] = {"cleanup.policy": "delete"}
    del log.settings[f"p-{AUDIO_UPLOADED.dead_letters.name}"]["segment.ms"]
    assert await differences(log, SETTINGS) == [
        Difference(uploaded, "retention.ms", "1000", str(7 * DAY_MS)),
        Difference(transcripts, "cleanup.policy", "delete", "compact"),
    ]
    assert str(Difference("t", "retention.ms", "1", "2")) == "t: retention.ms is 1, not 2"


async def test_topics_that_are_not_there_are_no_difference() -> None:
    assert await differences(FakeLog(), SETTINGS) == []
