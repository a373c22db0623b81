"""Chat completions as OpenAI-compatible endpoints speak them: the body of a request, and what an answer holds. Pure.

An answer that is not exactly as asked for raises Unreadable; nothing is guessed from a longer text.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from xpo_ray.judges.judgement import Message
from xpo_ray.judges.remote.numbers import number, parsed
from xpo_ray.judges.remote.outcomes import Unreadable
from xpo_ray.spec.remote_judge import LlmJudge

PATH = "/chat/completions"
WINNERS = {"A": 1.0, "B": 0.0, "tie": 0.5}
_VERDICT = re.compile(r"VERDICT: (A|B|TIE)")
_SCORE = re.compile(r"SCORE: ([+-]?\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Completion:
    """The text of an answer, and the tokens that it took where the endpoint says so."""

    text: str
    fault: str | None
    """Why the text does not count: it was cut, refused, or is not there."""
    input_tokens: int | None
    output_tokens: int | None


def endpoint_of(url: str) -> str:
    """The address of the chat completions below a base URL, or the URL where it is that address already."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    return url if path.endswith(PATH) else parts._replace(path=path + PATH).geturl()


def body(spec: LlmJudge, messages: Sequence[Message]) -> dict[str, Any]:
    """One request; `extra` is laid over it, and null takes a field out."""
    asked: dict[str, Any] = {"model": spec.model, "messages": list(messages), "temperature": 0}
    asked |= {"max_tokens": spec.max_tokens, **_form(spec), **spec.extra}
    return {name: value for name, value in asked.items() if value is not None}


def _form(spec: LlmJudge) -> dict[str, Any]:
    if spec.structured == "none":
        return {}
    if spec.structured == "json_object":
        return {"response_format": {"type": "json_object"}}
    told = (
        {"winner": {"type": "string", "enum": list(WINNERS)}}
        if spec.mode == "pairwise"
        else {"score": {"type": "number"}}
    )
    properties = {"reason": {"type": "string"}, **told}
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return {
        "response_format": {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": schema}}
    }


def completion(answer: bytes) -> Completion:
    """What an answer holds. Raises Unreadable where it is no chat completion."""
    found = parsed(answer)
    choices = found.get("choices") if isinstance(found, dict) else None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise Unreadable("the answer is no chat completion with one choice")
    message, usage = choices[0].get("message"), found.get("usage")
    message, usage = (message if isinstance(message, dict) else {}), (usage if isinstance(usage, dict) else {})
    text = message.get("content")
    fault = _fault(choices[0].get("finish_reason"), message.get("refusal"), text)
    tokens = [_count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens")]
    return Completion(text if isinstance(text, str) else "", fault, *tokens)


def _fault(finish: Any, refusal: Any, text: Any) -> str | None:
    if finish == "length":
        return "the judge's answer was cut at max_tokens; raise judge.max_tokens"
    if refusal or finish == "content_filter":
        return f"the judge refused to answer: {(refusal or finish)!r:.200}"
    return None if isinstance(text, str) else "the judge's answer has no text"


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def winner(spec: LlmJudge, text: str) -> float:
    """P(the first answer wins) as the judge says it: 1, ½ or 0."""
    if spec.structured == "none":
        return WINNERS[_last_line(text, _VERDICT).replace("TIE", "tie")]
    said = _field(text, "winner")
    if not isinstance(said, str) or said not in WINNERS:
        raise Unreadable(f"winner is {said!r:.80}; expected A, B or tie")
    return WINNERS[said]


def score(spec: LlmJudge, text: str) -> float:
    """The score as the judge says it, within the range."""
    said = float(_last_line(text, _SCORE)) if spec.structured == "none" else number(_field(text, "score"), "score")
    if said is None or not spec.lowest <= said <= spec.highest:
        raise Unreadable(f"score is {said}; expected a number from {spec.lowest:g} to {spec.highest:g}")
    return said


def _field(text: str, name: str) -> Any:
    try:
        found = parsed(text.strip())
    except Unreadable as error:
        said = str(error).replace("the answer", "the judge's text", 1)
        remedy = "an endpoint without structured output needs judge.structured none, which asks for a last line"
        raise Unreadable(f"{said}; {remedy}") from error
    if not isinstance(found, dict) or name not in found:
        raise Unreadable(f"the judge's text is not a JSON object with {name}")
    return found[name]


def _last_line(text: str, pattern: re.Pattern[str]) -> str:
    """What the last line says, which alone says it."""
    lines = [line.strip() for line in text.strip().splitlines()]
    said = [match[1] for line in lines if (match := pattern.fullmatch(line)) is not None]
    if len(said) != 1 or pattern.fullmatch(lines[-1]) is None:
        form = pattern.pattern.partition(":")[0]
        raise Unreadable(f"the judge's text has {len(said)} lines that are {form}: and a value; expected one, the last")
    return said[0]
