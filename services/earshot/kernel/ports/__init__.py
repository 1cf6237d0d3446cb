"""Everything outside, as protocols. Adapters implement them; tests have one fake for each."""

from earshot.kernel.ports.blobs import (
    BlobStore,
)
from earshot.kernel.ports.log import (
    EventLog,
)
from earshot.kernel.ports.recordings import (
    Accepted,
    Job,
    NewRecording,
    Recording,
    Recordings,
    RecordingState,
    StageCount,
    StoredSegment,
    Transcripts,
)
from earshot.kernel.ports.speech import (
    Clip,
    CutEnd,
    CutSegment,
    Decoder,
    Probe,
    Recognized,
    Recognizer,
)
from earshot.kernel.ports.vectors import (
    Encoder,
    IndexedPassage,
    PassageSet,
    ScoredPassage,
    SearchFilters,
    SearchMode,
    VectorStore,
)
from earshot.kernel.ports.work import (
    Attempts,
    Collections,
    CollectionSettings,
    Erasures,
    Heartbeat,
    Heartbeats,
    Leases,
    Ledger,
    SpanRow,
    Spans,
    Upkeep,
)

__all__ = [
    "Accepted",
    "Attempts",
    "BlobStore",
    "Clip",
    "CollectionSettings",
    "Collections",
    "CutEnd",
    "CutSegment",
    "Decoder",
    "Encoder",
    "Erasures",
    "EventLog",
    "Heartbeat",
    "Heartbeats",
    "IndexedPassage",
    "Job",
    "Leases",
    "Ledger",
    "NewRecording",
    "PassageSet",
    "Probe",
    "Recognized",
    "Recognizer",
    "Recording",
    "RecordingState",
    "Recordings",
    "ScoredPassage",
    "SearchFilters",
    "SearchMode",
    "SpanRow",
    "Spans",
    "StageCount",
    "StoredSegment",
    "Transcripts",
    "Upkeep",
    "VectorStore",
]
