"""What a rehearsal is asked, and its verdict. Both travel as JSON between processes, verdicts into a cache. No torch."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from xpo_ray.spec.run import RunSpec

Outcome = Literal["ok", "refused", "not_rehearsed"]


@dataclass(frozen=True)
class Verdict:
    """`refused`: the run could not work, and why in a sentence; `not_rehearsed`: nothing is known, and why."""

    outcome: Outcome
    reason: str = ""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def of_json(cls, text: str) -> "Verdict | None":
        """None for a text that is no verdict."""
        try:
            read = json.loads(text)
            outcome, reason = read["outcome"], str(read["reason"])
        except (ValueError, KeyError, TypeError):
            return None
        return cls(outcome, reason) if outcome in ("ok", "refused", "not_rehearsed") else None


@dataclass(frozen=True)
class Request:
    """A rehearsal: the run's spec, and an empty folder for the models that it writes."""

    spec: RunSpec
    scratch: str

    def to_json(self) -> str:
        return json.dumps({"spec": self.spec.model_dump(mode="json"), "scratch": self.scratch})

    @classmethod
    def of_json(cls, text: str) -> "Request":
        read: dict[str, Any] = json.loads(text)
        return cls(RunSpec.model_validate(read["spec"]), read["scratch"])
