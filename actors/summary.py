"""What the driver learns of a piece of work whose result stays in the object store."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Summary:
    """Prompts, seconds in the actor, and counts that depend on the stage (responses, tokens, pairs, ties, …)."""

    prompts: int
    seconds: float
    counts: dict[str, float]
    remarks: dict[str, str] = field(default_factory=dict)
    """What a user should know of how the actor works: a message for each code."""
