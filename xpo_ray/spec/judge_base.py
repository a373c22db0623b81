"""What the spec of every judge has; the kinds stand in judge.py and remote_judge.py."""

from pydantic import NonNegativeFloat

from xpo_ray.spec.base import Spec, operational


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
