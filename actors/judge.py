"""The actor around a judge: it turns CANDIDATES into PREFERENCES and scores held-out responses. No torch of its own."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from xpo_ray.actors.named_judge import NamedActor
from xpo_ray.actors.summary import Summary
from xpo_ray.algorithms import Row
from xpo_ray.decisions import judge_gave_up
from xpo_ray.errors import JudgeFailed, JudgeUnreachable
from xpo_ray.evaluation.scores import add_scores
from xpo_ray.judges import open_judge
from xpo_ray.judges.judgement import Judge, Judgement, counts_of, remarks_of
from xpo_ray.preferences import comparisons, given, prefer, shard_counts
from xpo_ray.spec.judge import JudgeSpec


class JudgeActor:
    """One replica of a judge; without a spec it serves rows whose pairs the dataset gives."""

    def __init__(self, spec: JudgeSpec | None, folder: str) -> None:
        self.spec = spec
        self._folder = Path(folder)

    @cached_property
    def judge(self) -> Judge | None:
        """Opened by the first method that needs it, not while Ray makes the actor: there a JudgeError would be a death, and the
        next process would be made only to die of it too."""
        return open_judge(self.spec, self._folder, NamedActor) if self.spec is not None else None

    def prefer(self, candidates: pa.Table, row: Row, run_seed: int, iteration: int) -> tuple[pa.Table, Summary]:
        """CANDIDATES → PREFERENCES: judge a shard and pair its candidates.

        Raises JudgeFailed where too many prompts could not be judged, JudgeUnreachable where waiting can help.
        """
        started = time.monotonic()
        with _telling_how_to_go_on():
            judgements = self._judgements(candidates) if row.judged else given(candidates)
        margin = self.spec.tie_margin if self.spec is not None else 0.0
        table = prefer(candidates, judgements, row, tie_margin=margin, seed=run_seed, iteration=iteration)
        failed = sum(j.failed for j in judgements) if row.judged else 0
        counts = {**shard_counts(table).__dict__, "failed": failed, **self._metered()}
        floats = {k: float(v) for k, v in counts.items()}
        return table, Summary(table.num_rows, time.monotonic() - started, floats, self._remarks())

    def _remarks(self) -> dict[str, str]:
        return remarks_of(self.judge) if self.judge is not None else {}

    def _metered(self) -> dict[str, float]:
        """What the judge has taken since it was asked last, where it counts that."""
        return counts_of(self.judge) if self.judge is not None else {}

    def _judgements(self, candidates: pa.Table) -> list[Judgement]:
        assert self.judge is not None
        assert self.spec is not None
        judgements = self.judge.judge(comparisons(candidates))
        failed = [j for j in judgements if j.failed]
        if judge_gave_up(len(judgements), len(failed), self.spec.max_failed_fraction):
            raise JudgeFailed(
                f"the judge failed on {len(failed)} of {len(judgements)} prompts of a shard, more than "
                f"judge.max_failed_fraction {self.spec.max_failed_fraction} allows; nothing of it was kept. "
                f"The first reason: {failed[0].reason}. Mend the judge and go on with --resume"
            )
        return judgements

    def held_out(self, based: pa.Table, base: pa.Table | None, previous: pa.Table | None) -> tuple[pa.Table, Summary]:
        """Score held-out responses beside the base's and the previous iterate's."""
        started = time.monotonic()
        with _telling_how_to_go_on():
            table = add_scores(self.judge, based, base, previous)
        return table, Summary(table.num_rows, time.monotonic() - started, self._metered(), self._remarks())

    def ready(self) -> tuple[None, dict[str, Any]]:
        """Process id, and whether there is a judge, once it is loaded. Raises JudgeError where it cannot be."""
        opened = self.judge is not None
        return None, {"pid": os.getpid(), "judge": opened}

    def pulse(self) -> None:
        """Answered beside the work of a judge whose own time limits let it take long."""


@contextmanager
def _telling_how_to_go_on() -> Iterator[None]:
    try:
        yield
    except JudgeUnreachable as error:
        raise JudgeUnreachable(
            f"{error}. What is committed stays, nothing of this shard was kept; bring the judge back, then resume the run"
        ) from error
