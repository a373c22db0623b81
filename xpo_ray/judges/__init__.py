"""Judges: who scores or ranks the candidates of a prompt.

An actor calls `open_judge` inside its own process, once, and uses what it gets from one thread. Importing this package
imports no judge, so that a Python judge never pays for torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from xpo_ray.judges.judgement import Comparison, Judge, Judgement, Message, Response

if TYPE_CHECKING:
    from xpo_ray.spec import JudgeSpec

__all__ = ["Comparison", "Judge", "Judgement", "Message", "Response", "open_judge"]


def open_judge(spec: JudgeSpec, folder: Path) -> Judge:
    """The judge that a spec names; `folder` is the spec file's. Loads what it needs at once. Raises JudgeError."""
    match spec.kind:
        case "python":
            from xpo_ray.judges.python import PythonFunction

            return PythonFunction(spec, folder)
        case "reward_model":
            from xpo_ray.judges.reward_model import RewardModel

            return RewardModel(spec, folder)
        case "http":
            from xpo_ray.judges.remote.http import HttpEndpoint

            return HttpEndpoint(spec, folder)
        case "llm":
            from xpo_ray.judges.remote.llm import LlmEndpoint

            return LlmEndpoint(spec, folder)
