"""The formats of other trainers, so that an endpoint that serves them judges here as it is. Pure.

Both hold one entry for each response, those of a comparison behind each other, and are answered with one reward for each;
null and NaN are missing scores.

`openrlhf`, as OpenRLHF's trainers send to the URL of a remote reward model:

    {"query": ["<prompt><response>", …], "prompts": ["<prompt>", …], "labels": [null, …]}  →  {"rewards": [0.3, …], …}

    `chat_template` says how a prompt becomes a text; a query begins with its prompt.

`trl`: TRL has reward functions but no format of its own for calling one over HTTP; this is what such a function is called
with, as JSON, so that an endpoint can be `return {"rewards": function(**body)}`:

    {"prompts": [[{"role": "user", "content": "…"}], …],
     "completions": [[{"role": "assistant", "content": "…"}], …]}                          →  {"rewards": [0.3, …]} or [0.3, …]
"""

from collections.abc import Sequence
from typing import Any

from xpo_ray.judges.judgement import Comparison, Message
from xpo_ray.judges.remote.numbers import numbers, parsed
from xpo_ray.judges.remote.outcomes import Unreadable
from xpo_ray.judges.remote.prompt_text import PromptText
from xpo_ray.judges.remote.verdict import Verdict


def openrlhf_body(comparisons: Sequence[Comparison], text: PromptText) -> dict[str, Any]:
    """A request as OpenRLHF sends it; `text` makes one of a prompt."""
    pairs = [(text(each.prompt), response.text) for each in comparisons for response in each.responses]
    return {
        "query": [prompt + response for prompt, response in pairs],
        "prompts": [prompt for prompt, _ in pairs],
        "labels": [None] * len(pairs),
    }


def trl_body(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """The arguments of a TRL reward function."""
    pairs = [(list(each.prompt), response.text) for each in comparisons for response in each.responses]
    return {
        "prompts": [prompt for prompt, _ in pairs],
        "completions": [[Message(role="assistant", content=text)] for _, text in pairs],
    }


def read(answer: bytes, comparisons: Sequence[Comparison], *, bare: bool) -> list[Verdict]:
    """The rewards of each comparison; `bare`: a list alone is an answer too. Raises Unreadable."""
    found = parsed(answer)
    if isinstance(found, dict):
        found = found.get("rewards")
    elif not bare:
        raise Unreadable('the answer is not an object {"rewards": […]}')
    rewards = iter(numbers(found, sum(len(each.responses) for each in comparisons), "rewards"))
    return [Verdict.of_scores(tuple(next(rewards) for _ in each.responses)) for each in comparisons]
