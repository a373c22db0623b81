"""Example: one row of a dataset in the one form that the rest of xpo_ray knows. Plain data, no library of datasets."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from xpo_ray.judges.judgement import Message


@dataclass(frozen=True)
class Example:
    """A prompt, and the dataset's pair of answers where it has one.

    Example: Example(({"role": "user", "content": "Hi"},), False, "Hello!", "Go away.", "17", "train.parquet, row 17").
    """

    prompt: tuple[Message, ...]
    conversational: bool
    """The dataset holds turns with roles; False for a plain string, which became a single user message."""
    chosen: str | None
    rejected: str | None
    prompt_id: str
    where: str
    """File and row (counted from 0), for messages to people."""


def hashed_prompt_id(prompt: Sequence[Message]) -> str:
    """An id for a prompt whose dataset gives none: the beginning of the sha256 of its messages."""
    text = json.dumps([[m["role"], m["content"]] for m in prompt], ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
