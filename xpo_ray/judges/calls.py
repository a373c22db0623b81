"""What crosses the pipes between a Python judge and the process of the user's function: one JSON line per record.

`child` writes Setup and Call and reads Ready and Reply, `worker` the other way round. Plain data, no I/O.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from xpo_ray.judges.judgement import Comparison, Message, Response


@dataclass(frozen=True)
class Setup:
    """The first line to the worker."""

    function: str
    folder: str
    batched: bool
    timeout_s: float
    python_path: str | None
    """PYTHONPATH as the user has it; the worker puts it back once it has started."""


@dataclass(frozen=True)
class Ready:
    """The first line from the worker: the function is imported, or why not."""

    file: str = ""
    concurrent: bool = False
    """The function is async: it may have several calls in flight."""
    fault: str | None = None


@dataclass(frozen=True)
class Call:
    """One call of the user's function: one comparison, or with `batched` any number."""

    number: int
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True)
class Answer:
    """What one try gave for one comparison: scores (None where one is not finite), or the reason why there are none."""

    scores: tuple[float | None, ...] | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Reply:
    """The answers to the call of that number, one per comparison, in order."""

    number: int
    answers: tuple[Answer, ...]


def to_line(record: Setup | Ready | Call | Reply) -> bytes:
    """ASCII JSON without line breaks inside, whatever the texts hold."""
    return json.dumps(asdict(record), separators=(",", ":"), allow_nan=False).encode() + b"\n"


def setup_of(line: bytes) -> Setup:
    return Setup(**json.loads(line))


def ready_of(line: bytes) -> Ready:
    return Ready(**json.loads(line))


def call_of(line: bytes) -> Call:
    raw = json.loads(line)
    return Call(raw["number"], tuple(_comparison(c["prompt"], c["responses"]) for c in raw["comparisons"]))


def _comparison(prompt: list[Message], responses: list[dict[str, str | bool]]) -> Comparison:
    return Comparison(tuple(prompt), tuple(Response(str(r["text"]), bool(r["ended"])) for r in responses))


def reply_of(line: bytes) -> Reply:
    raw = json.loads(line)
    return Reply(raw["number"], tuple(_answer(a["scores"], a["reason"]) for a in raw["answers"]))


def _answer(scores: list[float | None] | None, reason: str | None) -> Answer:
    return Answer(None if scores is None else tuple(scores), reason)
