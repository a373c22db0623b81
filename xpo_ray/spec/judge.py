"""Judges as the user names them."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

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


JudgeSpec = Annotated[PythonJudge | RewardModelJudge, Field(discriminator="kind")]
