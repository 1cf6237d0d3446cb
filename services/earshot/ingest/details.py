"""What a client may say about a recording, checked."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from earshot.kernel.events import Priority, Task
from earshot.kernel.lines import printable

Line = Annotated[str, AfterValidator(printable)]
Collection = Annotated[Line, StringConstraints(pattern=r"^\w[\w .-]{0,62}$")]
Language = Annotated[str, StringConstraints(pattern=r"^([A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,4})?$")]


class Details(BaseModel):
    """The fields beside the audio."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: Annotated[Line, Field(max_length=300)] = ""
    collection: Collection = "default"
    language: Language = ""
    task: Task | None = None
    priority: Priority = "normal"
    recorded_at: AwareDatetime | None = None
    metadata: Annotated[
        dict[Annotated[Line, Field(min_length=1, max_length=64)], Annotated[Line, Field(max_length=1000)]],
        Field(max_length=50),
    ] = Field(default_factory=dict)
