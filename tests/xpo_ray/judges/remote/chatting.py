"""Chat completions for tests: an endpoint's behaviour that reads the fenced texts of a request and judges them."""

import json
import re
from collections.abc import Callable
from typing import Any

from tests.xpo_ray.judges.remote.endpoint import Behaviour, Reply


def shown(body: dict[str, Any]) -> list[str]:
    """The responses of a request, in the order in which they are shown."""
    asked = body["messages"][1]["content"]
    return [m[3] for m in re.finditer(r"<<< (\w+) (ANSWER(?: [AB])?)\n(.*?)\n\2 \1 >>>", asked, re.DOTALL)]


def completed(text: str, tokens: tuple[int, int] | None = (100, 10), finish: str = "stop") -> Reply:
    """A chat completion with this text."""
    usage = None if tokens is None else {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return Reply(text=json.dumps({"object": "chat.completion", "choices": [choice], "usage": usage}))


def preferring(better: Callable[[str, str], str]) -> Behaviour:
    """An endpoint that says A, B or tie of the two texts."""
    return lambda body: completed(json.dumps({"reason": "so it is", "winner": better(*shown(body))}))


def longer(first: str, second: str) -> str:
    return "tie" if len(first) == len(second) else "A" if len(first) > len(second) else "B"


def scoring(score: Callable[[str], float]) -> Behaviour:
    """An endpoint that gives each text a number."""
    return lambda body: completed(json.dumps({"reason": "so it is", "score": score(shown(body)[0])}))
