"""The JSON contract of `judge: {kind: http}`, version 1. Pure: bodies out, judgements in.

The judge sends POST requests with Content-Type application/json, and Authorization: Bearer where it has a token:

    {"version": 1,
     "id": "5f0c…",                                   the same for the same comparisons: a request that is sent again
     "comparisons": [
       {"id": "0",                                    unique within the request
        "prompt": [{"role": "user", "content": "…"}],
        "responses": [{"text": "…", "ended": true}, …]}]}       ended: not cut at the length limit

The endpoint answers 200 with one judgement for each comparison, in any order; `scores`, `wins` or `failed`, one of them:

    {"version": 1,
     "judgements": [
       {"id": "0", "scores": [1.5, null]},            one for each response, higher is better; null: not known
       {"id": "1", "wins": [[null, 0.9], [0.1, null]]},         P(row's response beats column's), 0 to 1, or null
       {"id": "2", "failed": "why"}]}                 this prompt cannot be judged; it is dropped with the reason

Other keys are not looked at. A judgement that is missing, or has the wrong number of scores or none at all, is a failed one;
so is NaN in all places. An answer that is no such object, that has an id twice or one that was not sent, is not used at all,
and tried again. Another version is refused. A comparison whose request was answered with something that cannot be used (or
with 400, 413 or 422) is sent once more, alone. 429 and 5xx are tried again, after the pause of their Retry-After.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from xpo_ray.judges.judgement import Comparison
from xpo_ray.judges.remote.numbers import number, numbers, parsed
from xpo_ray.judges.remote.outcomes import Refused, Unreadable
from xpo_ray.judges.remote.verdict import Verdict

VERSION = 1


def body(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """The request for these comparisons."""
    plain = [
        {
            "id": str(i),
            "prompt": list(each.prompt),
            "responses": [{"text": r.text, "ended": r.ended} for r in each.responses],
        }
        for i, each in enumerate(comparisons)
    ]
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    return {"version": VERSION, "id": digest[:32], "comparisons": plain}


def read(answer: bytes, comparisons: Sequence[Comparison]) -> list[Verdict]:
    """What an answer says of each comparison. Raises Unreadable, or Refused for another version."""
    found = parsed(answer)
    if not isinstance(found, dict):
        raise Unreadable('the answer is not an object {"version": 1, "judgements": […]}')
    if "version" not in found:
        others = "; an endpoint that gives `rewards` needs judge.format trl or openrlhf" if "rewards" in found else ""
        raise Refused(f'the answer has no "version": {VERSION}{others}')
    if (version := found["version"]) != VERSION or isinstance(version, bool):
        raise Refused(f"the endpoint answers in version {version!r:.40} of the contract, this is version {VERSION}")
    given = _by_id(found.get("judgements"), len(comparisons))
    return [_verdict(given.get(str(i)), len(each.responses)) for i, each in enumerate(comparisons)]


def _by_id(judgements: Any, count: int) -> dict[str, dict[str, Any]]:
    if not isinstance(judgements, list) or not all(isinstance(j, dict) for j in judgements):
        raise Unreadable("`judgements` is not a list of objects")
    ids = [j.get("id") for j in judgements]
    known = {str(i) for i in range(count)}
    if any(not isinstance(i, str) for i in ids) or not set(ids) <= known or len(set(ids)) < len(ids):
        raise Unreadable(f"`judgements` have the ids {ids!r:.120}; expected those of the comparisons, each once")
    return dict(zip(ids, judgements, strict=True))


def _verdict(judgement: dict[str, Any] | None, count: int) -> Verdict:
    """A judgement that does not fit is a failed one; its neighbours stand."""
    if judgement is None:
        return Verdict(reason="the answer has no judgement with this comparison's id", lacking=True)
    kinds = [kind for kind in ("scores", "wins", "failed") if kind in judgement]
    if len(kinds) != 1:
        return Verdict(
            reason=f"the judgement has {kinds or 'none'} of scores, wins and failed; expected one", lacking=True
        )
    if "failed" in judgement:
        return Verdict(reason=f"the endpoint could not judge it: {judgement['failed']!r:.200}")
    try:
        if "scores" in judgement:
            return Verdict.of_scores(numbers(judgement["scores"], count, "scores"))
        return Verdict.of_wins(_wins(judgement["wins"], count))
    except Unreadable as error:
        return Verdict(reason=str(error), lacking=True)


def _wins(value: Any, count: int) -> tuple[tuple[float | None, ...], ...]:
    if not isinstance(value, list) or len(value) != count:
        raise Unreadable(f"wins: expected {count} rows of {count} probabilities")
    return tuple(_row(row, i, count) for i, row in enumerate(value))


def _row(row: Any, i: int, count: int) -> tuple[float | None, ...]:
    found = numbers(row, count, f"wins[{i}]")
    for j, p in enumerate(found):
        if p is not None and not 0 <= p <= 1:
            raise Unreadable(f"wins[{i}][{j}] is {number(p, 'p'):g}; a probability lies between 0 and 1")
    return tuple(None if i == j else p for j, p in enumerate(found))
