"""Judges as the user names them."""

import math
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, JsonValue, NonNegativeFloat, PositiveFloat, field_validator, model_validator

from xpo_ray.spec.base import Spec, operational

LONGEST_PAUSE_S = 30.0
"""Between two tries of a request of a remote judge, where the endpoint asks for no longer one."""
MOST_CANDIDATES = 8
"""For how many candidates of a prompt an LLM's time limits are added up."""


class JudgeBase(Spec):
    """What every judge has. A prompt that cannot be judged is dropped and counted; it never gets a score."""

    tie_margin: NonNegativeFloat = 0.0
    """Best and worst whose scores differ by no more than this are a tie."""
    max_failed_fraction: float = operational(0.5, ge=0.0, le=1.0)
    """The run stops when more than this share of a shard could not be judged."""
    retries: int = operational(2, ge=0)
    """Further tries for a prompt (or batch) whose judgement failed."""
    cache_entries: int = operational(0, ge=0)
    """Answers that each replica keeps, so that equal texts are not judged again: worth it where an answer costs money or time,
    wrong where the judge is random. Of a judge that computes they may move the last bit of its other scores, as batches change.
    An entry is a hash and an answer, some hundred bytes; the least recently used one goes first."""

    @property
    def pointwise(self) -> bool:
        """A score depends on its own prompt and response alone, so that it holds beside other responses too."""
        return False

    def longest_s(self, prompts: int) -> float:  # noqa: ARG002
        """What its own time limits let it take for so many prompts in the worst case; 0 where it has none."""
        return 0.0

    def secrets(self) -> tuple[str, ...]:
        """Variables of the environment that its processes need."""
        return ()


class PythonJudge(JudgeBase):
    """A Python function, run in processes of its own that are ended when they hang.

    `def score(prompt: list[Message], responses: list[str]) -> list[float]`, sync or async; with `batched`, lists of both.
    A Message is a dict with `role` and `content`.
    """

    kind: Literal["python"]
    function: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    """`module:function`; the module is looked up beside the spec file, then in the working folder, then as installed."""
    batched: bool = operational(False)
    """The function takes many prompts at once."""
    concurrency: int = operational(16, ge=1)
    """Calls of an async function in flight at once."""
    timeout_s: PositiveFloat = operational(60.0)
    """For one prompt, or with `batched` for one shard; then the process is ended and the call counts as failed."""

    def longest_s(self, prompts: int) -> float:
        calls = self.retries + 1 + prompts if self.batched else (self.retries + 1) * prompts
        return calls * self.timeout_s


class RewardModelJudge(JudgeBase):
    """A sequence-classification checkpoint with one output, its own tokenizer and its own chat template."""

    kind: Literal["reward_model"]
    path: str = operational(...)
    """Folder (relative to the spec file) or hub repository."""
    revision: str | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    chat_template: str = "tokenizer"
    """As for the model: `tokenizer`, `plain`, or the path of a Jinja file."""
    max_tokens: int | None = Field(None, ge=8)
    """Longer texts lose the beginning of the prompt. Default: what the checkpoint can read, at most 2048."""
    missing_eos_penalty: NonNegativeFloat = 0.0
    """Subtracted from the score of a response that did not end."""
    batch_tokens: int = operational(2048, ge=1)
    """Tokens in one forward pass; texts are batched by length."""

    @property
    def pointwise(self) -> bool:
        return True


class PairRMJudge(JudgeBase):
    """LLM-Blender's PairRM, a DeBERTa that reads a prompt with two responses and says which is better.

    Every ordered pair of a prompt's K responses is read, K·(K − 1) in all; equal texts are read once and tie.
    """

    kind: Literal["pairrm"]
    path: str = operational(...)
    """Folder (relative to the spec file) or hub repository with the files of PairRM-hf or of PairRM."""
    revision: str | None = None
    backbone: str | None = operational(None)
    """PairRM brings only weights: folder or hub repository with the config and tokenizer of deberta-v3-large. Default: a
    folder of that name in `path` or beside it. PairRM-hf needs none."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """float16 needs a GPU, bfloat16 a GPU or a processor with instructions for it."""
    gives: Literal["scores", "wins"] = "scores"
    """`scores`: mean differences of logits, by which LLM-Blender ranks, and which SELM and SPPO take; `wins`: P(one beats
    another) of each pair, which the pairing `max_margin` reads where responses beat each other in a cycle."""
    max_source_tokens: int = Field(1224, ge=8)
    """Of the prompt; what is longer loses its end."""
    max_tokens: int = Field(2048, ge=32)
    """Of prompt and two responses; each response may take half of what its prompt leaves, and loses its end beyond."""
    batch_tokens: int = operational(2048, ge=1)
    """Tokens in one forward pass; pairs are batched by length."""

    @model_validator(mode="after")
    def _responses_have_room(self) -> Self:
        if self.max_tokens - self.max_source_tokens < 16:
            raise ValueError(
                f"max_tokens {self.max_tokens} leaves two responses {self.max_tokens - self.max_source_tokens} tokens beside "
                f"max_source_tokens {self.max_source_tokens}; leave them 16 at least, PairRM was trained with 824"
            )
        return self


class RemoteJudge(JudgeBase):
    """What judges behind an HTTP endpoint have. Redirects are not followed, and proxies of the environment are not used.

    Tried again: connection errors, time limits, 429 and 5xx, and answers that cannot be read; never another 4xx. While the
    endpoint cannot be reached the judge waits; after `patience_s` of that the run pauses, and nothing is lost.
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

    @property
    def pointwise(self) -> bool:
        return self.mode == "scored"

    def requests(self, candidates: int) -> int:
        """Requests for one prompt with so many different candidates, without further tries."""
        return candidates * (candidates - 1 if self.mode == "pairwise" else 1)

    def longest_s(self, prompts: int) -> float:
        return self._longest_s(prompts * self.requests(MOST_CANDIDATES))


class ActorJudge(JudgeBase):
    """A named Ray actor that you run, in the cluster of the run; plain lists and dicts go in and come out.

    `score(prompt, responses)` gets a list of messages ({"role", "content"}) and a list of texts, and returns a number for each.
    `judge(comparisons)` gets a list of {"prompt": [messages], "responses": [{"text", "ended"}]} and returns a list with one
    answer for each: a list of scores, {"scores": [...]}, {"wins": [[P(row beats column), ...], ...]} or {"failed": "why"}. None
    and NaN are missing entries. Both may be async.
    """

    kind: Literal["actor"]
    name: str = Field(pattern=r"^\S(.*\S)?$")
    """As given to `.options(name=...)`."""
    namespace: str = Field("judges", pattern=r"^[^/\s]([^/]*[^/\s])?$")
    """As given to `.options(namespace=...)`, without a slash."""
    method: Literal["score", "judge"] = "score"
    """What is called: `score` once for each prompt, `judge` with `batch_size` comparisons."""
    batch_size: int = operational(16, ge=1)
    """Comparisons in one call of `judge`."""
    concurrency: int = operational(1, ge=1)
    """Calls in flight at once. More than one needs an actor that takes several at a time: waiting counts as time."""
    timeout_s: PositiveFloat = operational(60.0)
    """For one call; then it is cancelled, as far as Ray can, and counts as failed."""
    patience_s: NonNegativeFloat = operational(300.0)
    """How long, in one shard, the actor may be absent, start again or be stuck in a call before the run stops. Nothing is lost:
    it goes on when the actor is there."""
    retry_after_s: PositiveFloat = operational(1.0)
    """Wait before an actor that is absent is looked up again; twice as long each time, 30 s at most."""

    def pause_s(self, pauses: int) -> float:
        """The wait after that many waits in a row."""
        return min(self.retry_after_s * 2.0 ** min(pauses, 16), 30.0)

    @property
    def batch(self) -> int:
        """Comparisons in one call."""
        return self.batch_size if self.method == "judge" else 1

    def longest_s(self, prompts: int) -> float:
        alone = prompts if self.batch > 1 else 0
        calls = (self.retries + 1) * -(-prompts // self.batch) + alone
        return (calls + 1) * self.timeout_s + self.patience_s  # a look at the actor may take a call's time


Single = PythonJudge | RewardModelJudge | PairRMJudge | HttpJudge | LlmJudge | ActorJudge
"""Every judge that may stand alone or be a member of an ensemble."""
SingleJudge = Annotated[Single, Field(discriminator="kind")]


class MemberSpec(Spec):
    """One judge of an ensemble."""

    judge: SingleJudge
    weight: PositiveFloat = 1.0
    """Its share, relative to the others'."""

    @field_validator("judge", mode="before")
    @classmethod
    def _no_ensemble_within(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("kind") == "ensemble":
            raise ValueError("an ensemble may not hold an ensemble; list its members one by one")
        return value

    @field_validator("judge")
    @classmethod
    def _nothing_that_the_ensemble_decides(cls, judge: SingleJudge) -> SingleJudge:
        if judge.tie_margin != 0.0 or judge.max_failed_fraction != 0.5:
            raise ValueError("tie_margin and max_failed_fraction have no effect on a member; set them on the ensemble")
        return judge


class EnsembleJudge(JudgeBase):
    """Several judges and one verdict: their weighted mean, or a cheap judge with a dearer one for what it is unsure of.

    A member that fails on a prompt takes no part in it. `retries` are those of each member.
    """

    kind: Literal["ensemble"]
    members: tuple[MemberSpec, ...] = Field(min_length=2)
    """With cheap_then_dear two: the cheap one first."""
    combine: Literal["mean", "cheap_then_dear"] = "mean"
    """`mean`: every member judges every prompt. `cheap_then_dear`: the first judges all, the second those that the first is
    unsure of, and there the second's verdict stands."""
    normalise: Literal["none", "standardise", "rank"] = "standardise"
    """Among the candidates of one prompt, so that no member's scale outweighs another's: `standardise` takes scores minus their
    mean over their standard deviation, `rank` the share of the other candidates that are beaten; of two candidates both are
    votes, and a response alone has no score. `none` takes scores as they are, in one unit, and where a member gives win
    probabilities averages win probabilities. The formulas stand in xpo_ray/judges/combination.py."""
    min_members: int | None = Field(None, ge=1)
    """Members that must have judged a prompt, else its judgement fails. Default: all."""
    unsure_below: PositiveFloat | None = None
    """With cheap_then_dear: the dear judge is asked where the cheap one's best and worst candidate are closer than this, in
    its own scores, or in mean win probability."""

    def longest_s(self, prompts: int) -> float:
        return sum(member.judge.longest_s(prompts) for member in self.members)

    def secrets(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for member in self.members for name in member.judge.secrets()))

    @model_validator(mode="after")
    def _cheap_then_dear_has_its_settings(self) -> Self:
        if self.combine == "mean":
            if self.unsure_below is not None:
                raise ValueError("unsure_below needs `combine: cheap_then_dear`; add it or leave unsure_below out")
            return self
        if self.unsure_below is None:
            raise ValueError("cheap_then_dear needs unsure_below: the margin of the cheap judge that is too small")
        if len(self.members) != 2 or any(member.weight != 1.0 for member in self.members):
            raise ValueError(
                f"cheap_then_dear needs two members without weights, the cheap one first; got {len(self.members)} "
                f"with weights {', '.join(f'{member.weight:g}' for member in self.members)}"
            )
        if self.min_members is not None:
            raise ValueError("min_members has no effect with cheap_then_dear, where one verdict stands; leave it out")
        return self

    @model_validator(mode="after")
    def _enough_members(self) -> Self:
        if self.min_members is not None and self.min_members > len(self.members):
            raise ValueError(f"min_members is {self.min_members}, there are {len(self.members)} members; lower it")
        return self


JudgeSpec = Annotated[Single | EnsembleJudge, Field(discriminator="kind")]


def single_judges(spec: JudgeSpec, field: str) -> list[tuple[str, SingleJudge]]:
    """The judges that do the work, each with the name of its field: the members of an ensemble, or the judge itself."""
    if isinstance(spec, EnsembleJudge):
        return [(f"{field}.members.{i}.judge", member.judge) for i, member in enumerate(spec.members)]
    return [(field, spec)]
