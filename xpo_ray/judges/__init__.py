"""Judges: who scores or ranks the candidates of a prompt.

An actor calls `open_judge` inside its own process, once, and uses what it gets from one thread. Importing this package
imports no judge, so that a Python judge never pays for torch.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from xpo_ray.errors import JudgeError
from xpo_ray.judges.judgement import Comparison, Judge, Judgement, Message, Response

if TYPE_CHECKING:
    from xpo_ray.spec import ActorJudge, EnsembleJudge, JudgeSpec

    Named = Callable[[ActorJudge], Judge]

__all__ = ["Comparison", "Judge", "Judgement", "Message", "Response", "open_judge"]


def open_judge(spec: JudgeSpec, folder: Path, named: Named | None = None) -> Judge:
    """The judge that a spec names; `folder` is the spec file's. Loads what it needs at once. Raises JudgeError.

    `named` opens the judge of kind `actor`, which only a process on Ray can.
    """
    judge = _opened(spec, folder, named)
    if spec.cache_entries == 0 or spec.kind == "llm":  # which keeps its answers itself, question by question
        return judge
    from xpo_ray.judges.cache import CachedJudgements, CachedScores

    return (CachedScores if spec.pointwise else CachedJudgements)(judge, spec.cache_entries)


def _opened(spec: JudgeSpec, folder: Path, named: Named | None) -> Judge:
    match spec.kind:
        case "python":
            from xpo_ray.judges.python import PythonFunction

            return PythonFunction(spec, folder)
        case "reward_model":
            from xpo_ray.judges.reward_model import RewardModel

            return RewardModel(spec, folder)
        case "pairrm":
            from xpo_ray.judges.pairrm.judge import PairRMRanker

            return PairRMRanker(spec, folder)
        case "http":
            from xpo_ray.judges.remote.http import HttpEndpoint

            return HttpEndpoint(spec, folder)
        case "llm":
            from xpo_ray.judges.remote.llm import LlmEndpoint

            return LlmEndpoint(spec, folder)
        case "actor":
            if named is None:
                raise JudgeError(
                    f"judge.kind actor: {spec.name} is a Ray actor, and this process has no Ray; judge with it in a run"
                )
            return named(spec)
        case "ensemble":
            return _ensemble(spec, folder, named)


def _ensemble(spec: EnsembleJudge, folder: Path, named: Named | None) -> Judge:
    """All members or none: one that cannot be opened closes those before it. The ensemble's share of failures is theirs too."""
    from xpo_ray.judges.ensemble import Ensemble
    from xpo_ray.judges.naming import named as naming

    with ExitStack() as opened:
        members = []
        for i, member in enumerate(spec.members):
            judge = member.judge.model_copy(update={"max_failed_fraction": spec.max_failed_fraction})
            with naming(f"judge.members.{i}.judge", judge.kind):
                members.append(open_judge(judge, folder, named))
            opened.callback(members[-1].close)
        opened.pop_all()
    return Ensemble(spec, members)
