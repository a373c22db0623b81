"""A request to a judge's endpoint, what became of it, and what a reader of answers raises. Plain data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Request(Generic[T]):
    """What is sent as JSON, and what the body of an answer means; `read` raises Unreadable or Refused."""

    body: Mapping[str, Any]
    read: Callable[[bytes], T]


class Unreadable(ValueError):
    """The answer is not what was asked for; another try may give one that is."""


class Refused(ValueError):
    """The answer says that this endpoint will never do."""


@dataclass(frozen=True)
class Answered(Generic[T]):
    """The endpoint gave an answer that could be read."""

    value: T
    tries: int


@dataclass(frozen=True)
class Failed:
    """No try gave an answer that could be read."""

    reason: str
    tries: int
    unreachable: bool = False
    """For want of a working endpoint: connection errors, time limits, 429, 5xx; or of a token that it takes: 401, 403. Waiting
    may help."""
    divisible: bool = False
    """A smaller request may fare better."""
