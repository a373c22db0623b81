"""Whose fault an error is, and whether another attempt could do better."""

import pytest

from xpo_ray.errors import (
    ActorLost,
    CorruptArtifact,
    JudgeFailed,
    JudgeUnreachable,
    LedgerMismatch,
    NothingLearned,
    SpecError,
    TrainingDiverged,
)
from xpo_ray.failures import lasting, run_error


@pytest.mark.parametrize(
    ("error", "code", "kind", "lasts"),
    [
        (SpecError("x"), "spec_error", "user", True),
        (TrainingDiverged("x"), "training_diverged", "user", True),
        (JudgeFailed("x"), "judge_failed", "user", True),
        (JudgeUnreachable("x"), "judge_unreachable", "system", False),
        (NothingLearned("x"), "nothing_learned", "system", False),
        (CorruptArtifact("x"), "corrupt_artifact", "system", True),
        (LedgerMismatch("x"), "ledger_mismatch", "system", True),
        (ActorLost("x"), "actor_lost", "system", False),
        (OSError("disk full"), "oserror", "system", False),
    ],
)
def test_errors_have_a_code_a_side_and_a_verdict(error: Exception, code: str, kind: str, lasts: bool) -> None:
    told = run_error(error)
    assert (told.code, told.kind, lasting(error)) == (code, kind, lasts)


def test_the_traceback_ends_with_what_the_actor_added() -> None:
    error = JudgeFailed("no scores")
    error.add_note("in the judge's own process: KeyError: 'x'")
    told = run_error(error)
    assert told.traceback is not None
    assert told.traceback.rstrip().endswith("KeyError: 'x'")
