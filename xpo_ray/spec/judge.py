"""Judges as the user names them."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, field_validator, model_validator

from xpo_ray.spec.base import Spec, operational
from xpo_ray.spec.judge_base import JudgeBase
from xpo_ray.spec.remote_judge import HttpJudge, LlmJudge


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
    """Members that must have judged a prompt, else its judgement fails. Default: all. With fewer, the others go on without a
    member that is out of reach."""
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
