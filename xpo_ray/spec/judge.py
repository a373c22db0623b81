"""Judges as the user names them."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from xpo_ray.spec.base import Spec, operational


class JudgeBase(Spec):
    """What every judge has. A prompt that cannot be judged is dropped and counted; it never gets a score."""

    tie_margin: NonNegativeFloat = 0.0
    """Best and worst whose scores differ by no more than this are a tie."""
    max_failed_fraction: float = operational(0.5, ge=0.0, le=1.0)
    """The run stops when more than this share of a shard could not be judged."""
    retries: int = operational(2, ge=0)
    """Further tries for a prompt (or batch) whose judgement failed."""

    def longest_s(self, prompts: int) -> float:  # noqa: ARG002
        """What its own time limits let it take for so many prompts in the worst case; 0 where it has none."""
        return 0.0


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


JudgeSpec = Annotated[PythonJudge | RewardModelJudge | PairRMJudge, Field(discriminator="kind")]
