"""What all bodies have in common, and the page of a list."""

from datetime import datetime
from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Item = TypeVar("Item")

Metadata = Annotated[
    dict[
        Annotated[str, StringConstraints(min_length=1, max_length=64)],
        Annotated[str, StringConstraints(max_length=512)],
    ],
    Field(max_length=16),
]
"""A user's own notes: at most 16 pairs, names up to 64 characters, values up to 512."""
Count = Annotated[int, Field(ge=0, le=2**53)]
"""As far as every reader of JSON counts; databases stop further on."""
AttemptNumber = Annotated[int, Field(ge=1, le=9999)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]


class Answer(BaseModel):
    """What the service says. Unknown fields are let through, so that an older client reads a newer service."""

    model_config = ConfigDict(frozen=True)


class Question(BaseModel):
    """What a caller says: nothing unknown, nothing converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Page(Answer, Generic[Item]):
    """One page of a list; `next` is the cursor of the page behind it, None at the end."""

    items: list[Item]
    next: str | None = None


class Stamped(Answer):
    """A resource with an id and the time at which it was made."""

    id: str
    created_at: datetime
