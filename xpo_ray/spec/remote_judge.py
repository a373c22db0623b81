"""Judges behind HTTP endpoints as the user names them; judge.py has them among all judges."""

import math
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, JsonValue, NonNegativeFloat, PositiveFloat, field_validator, model_validator

from xpo_ray.spec.base import operational
from xpo_ray.spec.judge_base import JudgeBase

LONGEST_PAUSE_S = 30.0
"""Between two tries of a request of a remote judge, where the endpoint asks for no longer one."""
MOST_CANDIDATES = 8
"""For how many candidates of a prompt an LLM's time limits are added up."""


class RemoteJudge(JudgeBase):
    """What judges behind an HTTP endpoint have. Redirects are not followed, and proxies of the environment are not used.

    Tried again: connection errors, time limits, 429 and 5xx, and answers that cannot be read; never another 4xx. While the
    endpoint cannot be reached the judge waits; after `patience_s` of that the run pauses, and nothing is lost. It pauses too
    where the endpoint takes no request of a shard for want of a token (401, 403).
    """

    url: str
    """http(s)://host[:port]/path; for a service the host is on the operator's list. Everybody who may see the run sees this, so
    a secret belongs into `token_env`."""
    token_env: str | None = operational(None, pattern=r"^[A-Za-z_]\w*$")
    """Environment variable with a bearer token; for a service one of the run's `secrets`."""
    retries: int = operational(5, ge=0)
    """Further tries of a request, with growing pauses; the pause that a Retry-After asks for is kept."""
    timeout_s: PositiveFloat = operational(60.0)
    """For one request and its whole answer."""
    concurrency: int = operational(8, ge=1)
    """Requests in flight at once, of each judge replica."""
    breaker_failures: int = operational(8, ge=1)
    """After so many tries in a row that found no working endpoint nothing is sent for `cool_down_s`, then one request."""
    cool_down_s: PositiveFloat = operational(15.0)
    patience_s: NonNegativeFloat = operational(300.0)
    """How long an endpoint may be out of reach before the run pauses; also the longest Retry-After that is waited for."""

    @field_validator("url")
    @classmethod
    def _is_plain_http(cls, url: str) -> str:
        wanted = "give http(s)://host[:port]/path without a user, a password and a fragment"
        try:
            parts = urlsplit(url)
            labels = (parts.hostname or "").removesuffix(".").split(".")
            usable = (
                parts.scheme in ("http", "https") and parts.port != 0 and all(0 < len(each) < 64 for each in labels)
            )
        except ValueError as error:
            raise ValueError(f"not a URL ({error}); {wanted}") from error
        if not usable or parts.username is not None or parts.fragment or any(c <= " " or c > "~" for c in url):
            raise ValueError(wanted)
        return url

    def secrets(self) -> tuple[str, ...]:
        return () if self.token_env is None else (self.token_env,)

    def _longest_s(self, requests: int) -> float:
        """All tries of so many requests run into their limit, and wait between them as long as they may."""
        each = (self.retries + 1) * self.timeout_s + self.retries * max(LONGEST_PAUSE_S, self.patience_s)
        return math.ceil(requests / self.concurrency) * each + self.patience_s


class HttpJudge(RemoteJudge):
    """An endpoint that scores or compares candidates; README and xpo_ray/judges/remote/contract.py say what is sent."""

    kind: Literal["http"]
    format: Literal["xpo_ray", "trl", "openrlhf"] = "xpo_ray"
    """`xpo_ray`: comparisons in, scores or win probabilities out. `openrlhf`: its remote reward model's `query`, `prompts` and
    `rewards`. `trl`: the arguments of its reward functions, `prompts` and `completions`, as JSON."""
    batch_size: int = operational(16, ge=1)
    """Comparisons in one request. Of a batch that is refused or cannot be read, each is sent once more alone."""
    chat_template: str = "plain"
    """For `openrlhf`, which sends texts: `plain`, a prompt's messages with a blank line behind each, or the path of a Jinja
    file as a chat template, which writes the special tokens too."""

    @model_validator(mode="after")
    def _only_texts_have_a_template(self) -> Self:
        if self.chat_template != "plain" and self.format != "openrlhf":
            raise ValueError(f"chat_template is for format openrlhf; {self.format} sends messages, leave it out")
        if self.chat_template == "tokenizer":
            raise ValueError(
                "chat_template tokenizer: an endpoint has no tokenizer here; give `plain` or the path of a Jinja file, such as "
                "the chat_template.jinja in a model's folder (a file of that name is ./tokenizer)"
            )
        return self

    def longest_s(self, prompts: int) -> float:
        return self._longest_s(math.ceil(prompts / self.batch_size)) + self._longest_s(prompts)


class LlmJudge(RemoteJudge):
    """A language model behind an OpenAI-compatible chat-completions endpoint, asked at temperature 0.

    A pair is asked for in both orders; where they disagree it is a tie. An answer that is not exactly as asked for is a
    failed try, never a guess.
    """

    kind: Literal["llm"]
    url: str
    """The endpoint's base, such as http://localhost:8000/v1, or the whole address of its /chat/completions."""
    model: str = Field(min_length=1)
    """As the endpoint names it."""
    mode: Literal["pairwise", "scored"] = "pairwise"
    """`pairwise`: all pairs of K candidates in both orders, K·(K − 1) requests a prompt. `scored`: each candidate alone, K
    requests a prompt, a number between `lowest` and `highest`."""
    structured: Literal["json_schema", "json_object", "none"] = "json_schema"
    """How the answer's form is asked for (`response_format`); `none`: a last line VERDICT: or SCORE:, for endpoints without."""
    template: str | None = operational(None)
    """Text file with the request instead of the default one: {{prompt}}, {{first}} and {{second}} or {{response}}, {{answer}};
    `scored` also {{lowest}} and {{highest}}. Its content decides the result."""
    lowest: float = 1.0
    highest: float = 10.0
    cache_entries: int = operational(100_000, ge=0)
    """Answers that each replica keeps, one for each question, so that the same is not paid for twice; 0 asks again, as an
    evaluation then does for each pair."""
    max_tokens: int = Field(1024, ge=1)
    """Of the judge's answer; one that is cut is a failed try."""
    extra: dict[str, JsonValue] = Field(default_factory=dict)
    """More of the request's body, such as {reasoning_effort: low}; null takes a field out, as {temperature: null}."""
    price_per_million_input: NonNegativeFloat | None = operational(None)
    """Price of a million tokens that are sent, in any currency; with both prices the cost is counted."""
    price_per_million_output: NonNegativeFloat | None = operational(None)

    @model_validator(mode="after")
    def _fields_fit(self) -> Self:
        if self.lowest >= self.highest:
            raise ValueError(f"lowest {self.lowest:g} is not below highest {self.highest:g}; swap them")
        if (self.price_per_million_input is None) != (self.price_per_million_output is None):
            raise ValueError("price_per_million_input and price_per_million_output go together; set both or neither")
        if own := sorted({"messages", "model", "stream", "n", "response_format"} & set(self.extra)):
            raise ValueError(f"extra has {', '.join(own)}, which the judge sets itself; leave them out")
        return self

    def requests(self, candidates: int) -> int:
        """Requests for one prompt with so many different candidates, without further tries."""
        return candidates * (candidates - 1 if self.mode == "pairwise" else 1)

    def longest_s(self, prompts: int) -> float:
        return self._longest_s(prompts * self.requests(MOST_CANDIDATES))
